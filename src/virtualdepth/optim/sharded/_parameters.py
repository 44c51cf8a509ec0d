"""Which parameters lie on several processes, and the plan for each: the same everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed import (
    Plan,
    Scheme,
    ShardedMatrix,
    cut_dims,
    is_distributed,
    local_part,
    plan,
    process_groups,
    scheme_bytes,
    shard_groups,
    sharded_matrix,
)
from virtualdepth.maths import GramBasis, gram_block_size
from virtualdepth.optim._matrices import (
    Caches,
    Group,
    GroupStep,
    Matrix,
    States,
    matrix_of,
    parameter_name,
)
from virtualdepth.optim._options import OPTIONS, check_able, check_depth_options
from virtualdepth.optim.solvers import Knows
from virtualdepth.optim.step_scales import STEP_SCALES

# options that change nothing of what a step sends
_SCHEDULED = {"lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "cap"}


@dataclass(slots=True, eq=False)
class Part:
    """A parameter of depth > 1 of which this process holds a part."""

    matrix: Matrix  # of a DTensor
    number: int  # of its group
    layout: ShardedMatrix  # what all processes know about it
    plan: Plan  # what a step does with it
    step: GroupStep = field(init=False)  # of its group
    # where W is not decomposed in this step: the basis to act in, and the local part of U
    kept: tuple[GramBasis, Tensor] | None = None

    @property
    def parameter(self) -> Tensor:
        """The DTensor."""
        return self.matrix.parameter

    @property
    def group(self) -> Group:
        """Its options."""
        return self.matrix.group

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
        """View a local part as rows that are whole, (r, n), of W or of its transpose."""
        split = self.matrix.view.split(tensor)
        return split.mT if self.layout.side == 1 else split

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo :meth:`rows`: a tensor shaped as the local part."""
        split = rows.mT if self.layout.side == 1 else rows
        return self.matrix.view.join(split, like=local_part(self.parameter))

    @property
    def rows_shape(self) -> tuple[int, int]:
        """(m, n) of the whole matrix that :meth:`rows` are rows of."""
        m, n = self.layout.shape
        return (n, m) if self.layout.side == 1 else (m, n)

    @property
    def block_size(self) -> int:
        """Numbers that this parameter adds to the all-reduce."""
        if self.plan.scheme is not Scheme.GRAM:
            return 0
        columns = self.rows_shape[1]
        # U^T G with ||W||^2, or the Gram block, and ||G||^2
        return columns**2 + 2 if self.kept else gram_block_size(columns) + 1

    @property
    def keeps_basis(self) -> bool:
        """Whether W is decomposed every so many steps only."""
        return self.matrix.decomposes and self.group["precondition_frequency"] > 1


def parts(
    groups: Sequence[Group], states: States | None = None, caches: Caches | None = None
) -> list[Part]:
    """Find what lies on several processes, and plan it: in the same order on all of them."""
    states = {} if states is None else states
    sharded: list[Part] = []
    for number, group in enumerate(groups):
        for index, parameter in enumerate(group["params"]):
            if is_distributed(parameter):
                matrix = matrix_of(group, number, index, states, caches)
                if matrix is not None:
                    sharded.append(_part(matrix, number))
    if not sharded:
        return sharded
    _check_meshes(sharded)
    together: dict[tuple[Any, ...], list[Part]] = {}
    for part in sharded:
        together.setdefault(tuple(shard_groups(part.parameter)), []).append(part)
    for members in together.values():
        plans = plan([part.layout for part in members], [_wanted(part) for part in members])
        for part, each in zip(members, plans, strict=True):
            part.plan = each
    return sharded


def all_groups(placed: Sequence[Tensor]) -> list[Any]:
    """List the process groups of the mesh that all lie on, one for each of its dimensions."""
    return max(map(process_groups, placed), key=len)


def named(groups: Sequence[Group]) -> list[tuple[str, Tensor]]:
    """Name all parameters, sharded or not."""
    return [
        (parameter_name(group, number, index), parameter)
        for number, group in enumerate(groups)
        for index, parameter in enumerate(group["params"])
    ]


def planned(groups: Sequence[Group]) -> list[Any]:
    """List what decides what a step sends: schedules change the other options at every step."""
    keys = [name for name, option in OPTIONS.items() if option.agreed and name not in _SCHEDULED]
    return [[group[key] for key in keys] + list(map(id, group["params"])) for group in groups]


def described(groups: Sequence[Group]) -> list[str]:
    """Describe options and parameters by what must be the same on every process, a line each."""
    lines = []
    for number, group in enumerate(groups):
        for key in (name for name, option in OPTIONS.items() if option.agreed):
            value = group[key].item() if isinstance(group[key], Tensor) else group[key]
            lines.append(f"group {number} with {key}={value!r}")
        for index, p in enumerate(group["params"]):
            name, placements = parameter_name(group, number, index), getattr(p, "placements", "")
            lines.append(f"{name} {tuple(p.shape)} {p.dtype} {placements}".strip())
    return lines


def check_sharded_options(name: str, group: Mapping[str, Any]) -> None:
    """Refuse options that a sharded parameter cannot follow."""
    where = f" for the sharded parameter {name}"
    why = "needs the whole of it on one process; leave it unsharded, or give its group depth=1"
    check_able(group, "solver", lambda solver: solver.sharded, where=where, why=why)
    check_able(group, "step_scale", lambda scale: scale.sharded, where=where, why=why)
    if group["origin"] is not None:
        raise ValueError(f"origin: expected None{where} but got {group['origin']!r}, which {why}")


def _part(matrix: Matrix, number: int) -> Part:
    group = matrix.group
    check_depth_options(group)  # which may have changed since the last step
    check_sharded_options(matrix.name, group)
    view, raw = matrix.view, STEP_SCALES[group["step_scale"]].needs is Knows.NOTHING
    layout = sharded_matrix(
        matrix.name,
        matrix.parameter,
        view.count if view.structure.of_matrices else 1,
        view.transposed and view.structure.of_matrices,
    )
    if raw and all(map(view.structure.keeps_blocks, cut_dims(matrix.parameter))):
        layout = replace(layout, parts=())  # every process has whole blocks
    elif not view.structure.batched or (group["imbalance"] > 0 and not raw):
        layout = replace(layout, side=None)  # sums of W^T W tell nothing of its blocks, or steps
    return Part(matrix, number, layout, Plan(Scheme.LOCAL, 0))


def _wanted(part: Part) -> Scheme | None:
    """The scheme that the group asks for; where nothing is cut there is nothing to choose."""
    scheme, possible = part.group.get("scheme", "auto"), scheme_bytes(part.layout)
    if part.keeps_basis:
        if scheme not in ("auto", "gram") or Scheme.GRAM not in possible:
            raise ValueError(
                "precondition_frequency: expected 1 for the sharded parameter "
                f"{part.matrix.name} but got {part.group['precondition_frequency']!r}: between two "
                "decompositions P acts in the basis of the Gram matrix, which has no part in "
                f"{part.layout.count} of {part.layout.shape}, placed "
                f"{part.parameter.placements}, "  # type: ignore[attr-defined]
                f"with scheme={scheme!r}; leave it unsharded, or give its group 1"
            )
        return Scheme.GRAM
    if scheme == "auto" or Scheme.LOCAL in possible:
        return None
    if Scheme(scheme) not in possible:
        raise ValueError(
            f"scheme: expected one of {['auto', *(each.value for each in possible)]} for "
            f"{part.matrix.name}, {part.layout.count} of {part.layout.shape}, placed "
            f"{part.parameter.placements}, but got {scheme!r}"  # type: ignore[attr-defined]
        )
    return Scheme(scheme)


def _check_meshes(sharded: Sequence[Part]) -> None:
    groups = all_groups([part.parameter for part in sharded])
    for part in sharded:
        if not all(group in groups for group in process_groups(part.parameter)):
            raise ValueError(
                f"{part.matrix.name}: expected one mesh, or parts of it, for all parameters of "
                f"depth > 1 but got {part.parameter.device_mesh} "  # type: ignore[attr-defined]
                "beside another; use one optimizer per mesh"
            )
