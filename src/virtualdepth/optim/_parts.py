"""Which parameters lie on several processes, and the plan for each: the same everywhere."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.distributed import (
    Plan,
    Scheme,
    ShardedMatrix,
    is_distributed,
    local_part,
    plan,
    process_groups,
    scheme_bytes,
    shard_groups,
    sharded_matrix,
)
from virtualdepth.maths import gram_block_size
from virtualdepth.optim._matrix_view import MatrixView, parameter_name
from virtualdepth.optim._options import check_depth_options

Groups = Sequence[Mapping[str, Any]]

# "auto" chooses "svd", of the whole matrix or of its Gram matrix
_SOLVERS = ("auto", "svd")
_STEP_SCALES = ("raw", "unit")
# what decides how parameters move, and what is sent for it
_COMMON = (
    *("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "depth", "step_scale"),
    *("cap", "solver", "rtol", "origin", "scheme", "conv_groups", "blocks", "transposed"),
)


class Part(NamedTuple):
    """A parameter of depth > 1 of which this process holds a part.

    Attributes:
        name: for error messages.
        parameter: a DTensor.
        view: the parameter as matrices.
        number: of its group.
        group: its options.
        matrix: what all processes know about it.
        plan: what a step does with it.
    """

    name: str
    parameter: Tensor
    view: MatrixView
    number: int
    group: Mapping[str, Any]
    matrix: ShardedMatrix
    plan: Plan

    @property
    def grad(self) -> Tensor:
        """G, a DTensor; there is one."""
        assert self.parameter.grad is not None
        return self.parameter.grad

    @property
    def rtol(self) -> float:
        """What counts as 0: by the same cut as on one process, that of the dtype computed in."""
        dtype = torch.promote_types(self.parameter.dtype, torch.float32)
        rtol = self.group["rtol"]
        return torch.finfo(dtype).eps if rtol is None else float(rtol)

    def rows(self, tensor: Tensor) -> Tensor:
        """View a local part as rows that are whole, of W or of its transpose.

        Args:
            tensor: shaped as the local part.

        Returns:
            (r, n).
        """
        split = self.view.split(tensor)
        return split.mT if self.matrix.side == 1 else split

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo :meth:`rows`.

        Args:
            rows: (r, n).

        Returns:
            A tensor shaped as the local part.
        """
        split = rows.mT if self.matrix.side == 1 else rows
        return self.view.join(split, like=local_part(self.parameter))

    @property
    def rows_shape(self) -> tuple[int, int]:
        """Of the whole matrix that :meth:`rows` are rows of."""
        m, n = self.matrix.shape
        return (n, m) if self.matrix.side == 1 else (m, n)

    @property
    def block_size(self) -> int:
        """Numbers that this parameter adds to the all-reduce."""
        # one more for ||G||^2
        return gram_block_size(self.rows_shape[1]) + 1 if self.plan.scheme is Scheme.GRAM else 0


def parts(groups: Groups) -> list[Part]:
    """Find what lies on several processes, and plan it; nothing is asked of gradients.

    Args:
        groups: the optimizer's.

    Returns:
        The parts, in the same order on all processes.

    Raises:
        TypeError: if a placement is not supported, or an option of the wrong type.
        ValueError: if an option is out of range or cannot be combined with sharded parameters, a
            scheme cannot serve one, or their meshes are not parts of one.
    """
    found = [
        part
        for number, group in enumerate(groups)
        for index, parameter in enumerate(group["params"])
        if is_distributed(parameter) and (part := _part(group, number, index)) is not None
    ]
    _check_meshes(found)
    together: dict[tuple[Any, ...], list[int]] = {}
    for place, part in enumerate(found):
        together.setdefault(tuple(shard_groups(part.parameter)), []).append(place)
    for places in together.values():
        plans = plan([found[at].matrix for at in places], [_wanted(found[at]) for at in places])
        for at, each in zip(places, plans, strict=True):
            found[at] = found[at]._replace(plan=each)
    return found


def all_groups(found: Sequence[Part]) -> list[Any]:
    """List the process groups of the mesh that all parts lie on.

    Args:
        found: what :func:`parts` found.

    Returns:
        One for each dimension of the mesh.
    """
    return max((process_groups(part.parameter) for part in found), key=len)


def named(groups: Groups) -> list[tuple[str, Tensor]]:
    """Name all parameters, sharded or not.

    Args:
        groups: the optimizer's.

    Returns:
        Name and parameter.
    """
    return [
        (parameter_name(group, number, index), parameter)
        for number, group in enumerate(groups)
        for index, parameter in enumerate(group["params"])
    ]


def described(groups: Groups) -> list[str]:
    """Describe groups and parameters, sharded or not, by what must be the same on every process.

    Args:
        groups: the optimizer's.

    Returns:
        A line for each option of a group, and for each of its parameters.
    """
    lines = []
    for number, group in enumerate(groups):
        for key in _COMMON:
            value = group[key].item() if isinstance(group[key], Tensor) else group[key]
            lines.append(f"group {number} with {key}={value!r}")
        for index, p in enumerate(group["params"]):
            name, placements = parameter_name(group, number, index), getattr(p, "placements", "")
            lines.append(f"{name} {tuple(p.shape)} {p.dtype} {placements}".strip())
    return lines


def check_sharded_options(name: str, group: Mapping[str, Any]) -> None:
    """Refuse options that a sharded parameter cannot follow.

    Args:
        name: of the parameter.
        group: its options.

    Raises:
        ValueError: if there is one.
    """
    allowed = {"solver": _SOLVERS, "step_scale": _STEP_SCALES, "origin": (None,)}
    for option, values in allowed.items():
        if group.get(option) not in values:
            raise ValueError(
                f"{option}: expected {' or '.join(map(repr, values))} for the sharded parameter "
                f"{name} but got {group[option]!r}, which needs the whole of it on one process; "
                "leave it unsharded, or give its group depth=1"
            )


def _part(group: Mapping[str, Any], number: int, index: int) -> Part | None:
    view, name = MatrixView.of(group, index), parameter_name(group, number, index)
    if view is None:
        return None
    check_depth_options(group)  # which may have changed since the last step
    check_sharded_options(name, group)
    parameter = group["params"][index]
    matrix = sharded_matrix(name, parameter, view.count, view.transposed)
    return Part(name, parameter, view, number, group, matrix, Plan(Scheme.LOCAL, 0))


def _wanted(part: Part) -> Scheme | None:
    """The scheme that the group asks for; where nothing is cut there is nothing to choose."""
    scheme, possible = part.group.get("scheme", "auto"), scheme_bytes(part.matrix)
    if scheme == "auto" or Scheme.LOCAL in possible:
        return None
    if Scheme(scheme) not in possible:
        raise ValueError(
            f"scheme: expected one of {['auto', *(each.value for each in possible)]} for "
            f"{part.name}, {part.matrix.count} of {part.matrix.shape}, placed "
            f"{part.parameter.placements}, but got {scheme!r}"  # type: ignore[attr-defined]
        )
    return Scheme(scheme)


def _check_meshes(found: Sequence[Part]) -> None:
    if not found:
        return
    groups = all_groups(found)
    for part in found:
        if not all(group in groups for group in process_groups(part.parameter)):
            raise ValueError(
                f"{part.name}: expected one mesh, or parts of it, for all parameters of depth > 1 "
                f"but got {part.parameter.device_mesh} beside another; "  # type: ignore[attr-defined]
                "use one optimizer a mesh"
            )
