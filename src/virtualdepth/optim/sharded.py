"""One step for matrices that lie on several processes: the same decision on all of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.distributed import (
    Agreement,
    Plan,
    Scheme,
    ShardedMatrix,
    check_gradient_placed,
    is_distributed,
    local_part,
    mesh_of,
    own_part,
    plan,
    sharded_matrix,
    whole,
)
from virtualdepth.maths import (
    EndToEndGradient,
    end_to_end_gradient,
    gram_block,
    gram_block_size,
    gram_factors,
    unit_scale,
)
from virtualdepth.optim.directions import without_autocast
from virtualdepth.optim.guard import StepGuard
from virtualdepth.optim.matrix_view import MatrixView, parameter_name


class Part(NamedTuple):
    """A parameter of depth > 1 of which this process holds a part.

    Attributes:
        name: for error messages.
        parameter: a DTensor.
        view: the parameter as matrices.
        group: its options.
        matrix: what all processes know about it.
        plan: what a step does with it.
    """

    name: str
    parameter: Tensor
    view: MatrixView
    group: Mapping[str, Any]
    matrix: ShardedMatrix
    plan: Plan

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation."""
        return torch.promote_types(self.parameter.dtype, torch.float32)

    def rows(self, tensor: Tensor) -> Tensor:
        """View a local part as rows that are whole, of W or of its transpose.

        Args:
            tensor: shaped as the local part.

        Returns:
            (r, n).
        """
        split = self.view.split(tensor)
        return split.mT if self.matrix.sharded_side == 1 else split

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo :meth:`rows`.

        Args:
            rows: (r, n).

        Returns:
            A tensor shaped as the local part.
        """
        split = rows.mT if self.matrix.sharded_side == 1 else rows
        return self.view.join(split, like=local_part(self.parameter))

    @property
    def rows_shape(self) -> tuple[int, int]:
        """Of the whole matrix that :meth:`rows` are rows of."""
        m, n = self.matrix.shape
        return (n, m) if self.matrix.sharded_side == 1 else (m, n)

    @property
    def block_size(self) -> int:
        """Numbers that this parameter adds to the all-reduce."""
        # one more for ||G||^2
        return gram_block_size(self.rows_shape[1]) + 1 if self.plan.scheme is Scheme.GRAM else 0


def parts(groups: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """Find what lies on several processes; nothing is asked of gradients.

    Args:
        groups: the optimizer's.

    Yields:
        The parts, in the same order on all processes.

    Raises:
        TypeError: if a mesh or placement is not supported.
        ValueError: if an option cannot be combined with sharded parameters, or two meshes differ.
    """
    mesh = None
    for number, group in enumerate(groups):
        for index, parameter in enumerate(group["params"]):
            view = MatrixView.of(group, index)
            if view is None or not is_distributed(parameter):
                continue
            name = parameter_name(group, number, index)
            _check_options(name, group)
            matrix = sharded_matrix(name, parameter, view.count, view.transposed)
            mesh = mesh or mesh_of(parameter)
            if mesh_of(parameter) != mesh:
                raise ValueError(
                    f"{name}: expected one mesh for all parameters of depth > 1 but got "
                    f"{mesh_of(parameter)} beside {mesh}; use one optimizer a mesh"
                )
            yield Part(name, parameter, view, group, matrix, plan(matrix))


def described(groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, Tensor, str]]:
    """Describe all parameters, sharded or not, by what must be the same on every process.

    Args:
        groups: the optimizer's.

    Returns:
        Name, parameter and description of each.
    """
    return [
        (
            name := parameter_name(group, number, index),
            parameter,
            f"{name} {tuple(parameter.shape)} {parameter.dtype} depth {group['depth']:g} "
            f"{getattr(parameter, 'placements', '')}".strip(),
        )
        for number, group in enumerate(groups)
        for index, parameter in enumerate(group["params"])
    ]


def _check_options(name: str, group: Mapping[str, Any]) -> None:
    if group["step_scale"] in {"rms", "auto"}:
        raise ValueError(
            f"step_scale: expected 'raw' or 'unit' for the sharded parameter {name} but got "
            f"{group['step_scale']!r}, which needs numbers of the whole group"
        )
    if group["origin"] is not None:
        raise ValueError(
            f"origin: expected None for the sharded parameter {name} but got {group['origin']!r}"
        )


def local_blocks(found: Sequence[Part], guard: StepGuard) -> list[Tensor]:
    """Do the local work before the all-reduce, changing nothing.

    Args:
        found: what :func:`parts` found.
        guard: refuses what is not finite.

    Returns:
        A block each, empty for a parameter that is not summed.

    Raises:
        FloatingPointError: if this process's part of a weight or gradient is not finite.
    """
    blocks = no_blocks(found)
    for index, part in enumerate(found):
        if part.parameter.grad is None:
            continue
        check_gradient_placed(part.name, part.parameter)
        weight, grad = local_part(part.parameter), local_part(part.parameter.grad)
        guard.refuse(part.name, "weight", weight)
        guard.refuse(part.name, "gradient", grad)
        if part.block_size:
            block = gram_block(part.rows(weight), part.rows(grad))
            blocks[index] = torch.cat([block, grad.double().square().sum().view(1)])
    return blocks


def no_blocks(found: Sequence[Part]) -> list[Tensor]:
    """Make what a process adds to the sum that has nothing to add.

    Args:
        found: what :func:`parts` found.

    Returns:
        Zeros.
    """
    return [
        torch.zeros(part.block_size, dtype=torch.float64, device=part.parameter.device)
        for part in found
    ]


def directions(
    found: Sequence[Part], sums: Sequence[Tensor], agreement: Agreement, guard: StepGuard
) -> dict[Tensor, Tensor]:
    """Compute what every part moves along from the sums over all processes.

    Where all that was needed is in the sums, and they bound what comes out, no process asks
    another again. Otherwise parameters are gathered, and all processes agree once more.

    Args:
        found: what :func:`parts` found.
        sums: of their blocks.
        agreement: of this step.
        guard: refuses what is not finite.

    Returns:
        parameter -> scaled P_W(G), shaped as the local part, for those that have a gradient.
    """
    moving, bounded = {}, True
    for part, total in zip(found, sums, strict=True):
        if part.parameter.grad is None:
            continue
        result, bound = _from_sum(part, total)
        if result is None:
            everything = whole(part.parameter), whole(part.parameter.grad)
            with agreement.local_work():
                result = _from_whole(part, *everything, guard)
        if result is None:  # it failed
            bounded = False
            continue
        gradient, local = result
        scale = _scale(part, gradient)
        bounded = bounded and bound * scale < torch.finfo(part.parameter.dtype).max / 2
        moving[part.parameter] = local if scale == 1 else scale * local
        if not bounded:
            with agreement.local_work():
                guard.refuse(part.name, "update", moving[part.parameter].to(part.parameter.dtype))
    if not bounded:
        agreement.reduce((), (), ())
    return moving


_Result = tuple[EndToEndGradient, Tensor]


def _from_sum(part: Part, total: Tensor) -> tuple[_Result | None, float]:
    """P_W(G) of this process's part, and a bound on its entries; none where the sum falls short."""
    if not part.block_size:
        return None, math.inf
    # by the same cut as on one process: that of the dtype computed in there
    rtol = torch.finfo(part.dtype).eps if part.group["rtol"] is None else part.group["rtol"]
    factors = gram_factors(total[:-1], part.rows_shape, float(part.group["depth"]), rtol)
    if factors is None:
        return None, math.inf
    gradient = factors.apply(
        part.rows(local_part(part.parameter)), part.rows(local_part(_grad(part)))
    )
    norms = torch.stack([factors.on_grad.norm(), factors.on_weight.norm()])
    sizes = torch.stack([total[-1].sqrt(), factors.singular_values.norm()])
    return (gradient, part.from_rows(gradient.direction)), float(norms @ sizes)


def _from_whole(part: Part, weight: Tensor, grad: Tensor, guard: StepGuard) -> _Result:
    guard.admit(part.name, "weight", weight)
    with without_autocast(weight.device.type):
        gradient = end_to_end_gradient(
            part.view.split(weight),
            part.view.split(grad),
            float(part.group["depth"]),
            part.group["rtol"],
        )
    joined = part.view.join(gradient.direction, like=part.parameter).contiguous()
    return gradient, own_part(joined, like=part.parameter)


def _scale(part: Part, gradient: EndToEndGradient) -> float:
    if part.group["step_scale"] == "raw":
        return 1.0
    group = part.group
    return unit_scale(gradient, float(group["depth"]), group["lr"], group["cap"]).item()


def _grad(part: Part) -> Tensor:
    grad = part.parameter.grad
    assert grad is not None
    return grad
