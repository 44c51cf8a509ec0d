"""One step for matrices that lie on several processes: whole on all of them, or on none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed import (
    Agreement,
    PlanChanged,
    Scheme,
    Summand,
    check_gradient_placed,
    dtensor_like,
    is_distributed,
    local_part,
    shard_groups,
)
from virtualdepth.maths import gram_basis, gram_block, gram_cross, is_ordinary
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Caches, Group, GroupStep, States
from virtualdepth.optim._new_values import check_new_values
from virtualdepth.optim.sharded._gather import at_owners, gathered, on_whole
from virtualdepth.optim.sharded._parameters import (
    Part,
    all_groups,
    described,
    named,
    parts,
    planned,
)
from virtualdepth.optim.solvers import begin_sharded, note_sharded, was_changed
from virtualdepth.optim.step_scales import STEP_SCALES


@dataclass
class Agreed:
    """What a step sends, as all processes were found to want it."""

    groups: list[Group] = field(default_factory=list)  # as they were then
    planned: list[Any] | None = None  # None before the first comparison
    refresh: bool = False  # whether the next step decomposes every W, whose ever turn it is

    def remember(self, groups: Sequence[Group]) -> None:
        """Take what the groups ask for as agreed."""
        self.groups = [{**group, "params": [*group["params"]]} for group in groups]
        self.planned = planned(groups)


def agreed_steps(
    groups: Sequence[Group],
    states: States,
    caches: Caches,
    agreed: Agreed,
    compute: Callable[..., list[GroupStep]],
    finite: FiniteCheck,
) -> list[GroupStep] | None:
    """Compute the same steps on every process, or raise the same error; nothing is changed.

    ``compute`` is the step of all parameters but some. Without sharded parameters there are none.
    """
    find = partial(parts, states=states, caches=caches)
    placed = [p for group in groups for p in group["params"] if is_distributed(p)]
    if not placed:
        return None
    agreement = Agreement(all_groups(placed), placed[0].device, described(groups))
    if agreed.planned is None:
        agreement.compare()
        agreed.remember(groups)
    while True:
        agreement.changed = planned(groups) != agreed.planned or (
            not agreed.refresh and _any_changed(groups, find)
        )
        try:
            steps = _steps_as_planned(groups, find, agreed, compute, finite, agreement)
        except PlanChanged:  # on all processes, and alike
            finite.drop()
            agreement.failure = None
            agreed.remember(groups)
            agreed.refresh = True
        else:
            agreed.refresh = False
            return steps


def _any_changed(groups: Sequence[Group], find: Callable[[Sequence[Group]], list[Part]]) -> bool:
    """Tell whether something other than the step has changed the local part of a W."""
    if all(group["precondition_frequency"] == 1 for group in groups):
        return False
    return any(part.keeps_basis and was_changed(part.matrix) for part in find(groups))


def _steps_as_planned(
    groups: Sequence[Group],
    find: Callable[[Sequence[Group]], list[Part]],
    agreed: Agreed,
    compute: Callable[..., list[GroupStep]],
    finite: FiniteCheck,
    agreement: Agreement,
) -> list[GroupStep]:
    """Compute the steps, unless a process has another plan by now."""
    # until all have heard of it, this process sends what the others expect
    sharded = find(agreed.groups if agreement.changed else groups)
    for part in sharded:
        if part.keeps_basis:  # whether it has a gradient here or not: all send the same sizes
            part.kept = begin_sharded(part.matrix, refresh=agreed.refresh)
    everything = named(agreed.groups if agreement.changed else groups)
    if agreement.changed:
        names = [name for name, _ in everything] if sharded else []
        agreement.reduce(names, [False] * len(names), [_nothing(part) for part in sharded])
        raise PlanChanged  # as the sum has told all
    if not sharded:  # one of them may want depth by now, and would wait for this process
        agreement.reduce((), (), ())
        return compute()
    steps: list[GroupStep] = []
    summands, moving = [_nothing(part) for part in sharded], {}
    with agreement.local_work():
        steps = compute(without={part.parameter for part in sharded})
        for part in sharded:
            part.step = steps[part.number]
        finite.raise_pending()  # the others have to hear of it now, not one step late
        moving = _local_directions(sharded, finite)
        _check_new(sharded, moving, finite)
        summands = [_summand(part, finite) for part in sharded]
    sums = agreement.reduce(
        [name for name, _ in everything],
        [parameter.grad is not None for _, parameter in everything],
        summands,
    )
    moving |= _agreed_directions(sharded, sums, agreement, finite)
    for part in sharded:
        matrix, p = part.matrix, part.parameter
        if p in moving:
            matrix.weight = p
            matrix.direction = dtensor_like(moving[p], like=p)
            steps[part.number].matrices.append(matrix)
    return steps


def _nothing(part: Part) -> Summand:
    """Make zeros to add to the sum."""
    block = torch.zeros(part.block_size, dtype=torch.float64, device=part.parameter.device)
    return Summand(block, shard_groups(part.parameter))


def _summand(part: Part, finite: FiniteCheck) -> Summand:
    """Check that the local part is finite, and compute what this process adds to the sum."""
    nothing, name = _nothing(part), part.matrix.name
    if part.parameter.grad is None:
        return nothing
    check_gradient_placed(name, part.parameter)
    weight, grad = local_part(part.parameter), local_part(part.grad)
    finite.check_now(name, "weight", weight)
    finite.check_now(name, "gradient", grad)
    _check_momentum(part, finite)
    if part.plan.scheme is not Scheme.GRAM:
        return nothing
    squares = [each.double().square().sum().view(1) for each in (weight, grad)]
    if part.kept:
        _, left = part.kept
        block = [(part.rows(left).double().T @ part.rows(grad).double()).flatten(), *squares]
    else:
        block = [gram_block(part.rows(weight), part.rows(grad)), squares[1]]
    return nothing._replace(block=torch.cat(block))


def _local_directions(sharded: Sequence[Part], finite: FiniteCheck) -> dict[Tensor, Tensor]:
    """Precondition the matrices that lie whole on this process, or whose blocks do."""
    directions = {}
    for part in sharded:
        if part.plan.scheme is Scheme.LOCAL and part.parameter.grad is not None:
            check_gradient_placed(part.matrix.name, part.parameter)
            weight, grad = local_part(part.parameter), local_part(part.grad)
            here = on_whole(part, weight, grad, finite) if weight.numel() else weight
            directions[part.parameter] = here
    return directions


def _agreed_directions(
    sharded: Sequence[Part], sums: Sequence[Tensor], agreement: Agreement, finite: FiniteCheck
) -> dict[Tensor, Tensor]:
    """Compute the directions of the parts that are cut, given the sums over all processes."""
    # if the sums determine every direction, and bound it, the processes need not agree again;
    # otherwise matrices are fetched, and all processes agree once more
    moving: dict[Tensor, Tensor] = {}
    to_gather, to_owners, certain = [], [], True
    for part, total in zip(sharded, sums, strict=True):
        if part.parameter.grad is None or part.plan.scheme is Scheme.LOCAL:
            continue
        if part.plan.scheme is Scheme.OWNER:
            to_owners.append(part)
        elif part.plan.scheme is Scheme.GATHER or (result := _from_sum(part, total)) is None:
            to_gather.append(part)
        else:
            moving[part.parameter], bound = result
            bounded = bound < torch.finfo(part.parameter.dtype).max / 4
            # a sum over some processes may differ from that over others
            summed_by_all = len(shard_groups(part.parameter)) == len(agreement.groups)
            certain = certain and bounded and summed_by_all
    if to_gather or to_owners or not certain:
        moving |= gathered(to_gather, agreement, finite) | at_owners(to_owners, agreement, finite)
        with agreement.local_work():
            _check_new(sharded, moving, finite)
        agreement.reduce((), (), ())
    return moving


def _check_new(
    sharded: Sequence[Part], moving: Mapping[Tensor, Tensor], finite: FiniteCheck
) -> None:
    """Refuse directions, new momenta and new weights of this process that are not finite."""
    for part in sharded:
        matrix, direction = part.matrix, moving.get(part.parameter)
        if direction is None or not direction.numel():
            continue
        rounded = part.group["momentum"] != 0
        stored = direction.to(part.parameter.dtype) if rounded else direction
        matrix.direction = direction
        matrix.direction_peak = finite.check(matrix.name, "update", stored)
        matrix.weight_peak = finite.check(
            matrix.name, "part of the weight", local_part(part.parameter)
        )
        check_new_values([replace(part.step, matrices=[matrix], plain=[], writes=[])], finite)
    finite.raise_pending()


def _check_momentum(part: Part, finite: FiniteCheck) -> None:
    """Refuse a momentum that leaves too little room for the direction, which has a bound."""
    group = part.group
    buffer = part.step.states.get(part.parameter, {}).get("momentum_buffer")
    if buffer is not None and group["momentum"] != 0 and local_part(buffer).numel():
        largest = finite.check(part.matrix.name, "momentum", local_part(buffer))
        # from the left: infinity times no momentum would be NaN
        room = largest * max(1.0, float(group["lr"])) * 4 * _growth(group)
        finite.check_bound(part.matrix.name, "new momentum", room, part.parameter.dtype)
        finite.raise_pending()


def _growth(group: Group) -> float:
    """Bound what momentum makes of a direction within one step."""
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    return (1 + momentum) * max(1.0, momentum, abs(1 - dampening))


def _from_sum(part: Part, total: Tensor) -> tuple[Tensor, float] | None:
    """Compute the direction of a part, and a bound on what it leads to on any process.

    None where the sum does not determine P_W.
    """
    group = part.group
    depth, imbalance = float(group["depth"]), group["imbalance"]
    weight, grad = part.rows(local_part(part.parameter)), part.rows(local_part(part.grad))
    shape, options = part.rows_shape, (min(part.rows_shape), depth, imbalance)
    if part.kept:
        basis, left = part.kept
        gram = basis.preconditioner(total[:-2].view(shape[1], shape[1]), *options)
        # of the rows that P acts on, and of W by now
        acted, size = part.rows(left), total[-2].sqrt()
        acted_size = torch.ones_like(size)
    else:
        found = gram_basis(total[:-1], shape, part.rtol)
        if part.keeps_basis:
            rows = None if found is None else part.from_rows(found.left(weight)).contiguous()
            note_sharded(part.matrix, found, rows)
        if found is None:
            return None
        gram = found.of_sums(gram_cross(total[:-1], shape[1]), *options)
        acted, size = weight, gram.singular_values.norm()
        acted_size = size
    result = gram.apply(acted, grad)
    multiplier = STEP_SCALES[group["step_scale"]].multiplier(result, group, group["lr"])
    scale = 1.0 if multiplier is None else multiplier.item()
    norms = torch.stack([gram.on_grad.norm(), gram.on_weight.norm()])
    sizes = torch.stack([total[-1].sqrt(), acted_size])
    grad_size, weight_size, moved = torch.stack([sizes[0], size, norms @ sizes]).tolist()
    dtype = torch.promote_types(part.parameter.dtype, torch.float32)
    if not is_ordinary(weight_size, grad_size, depth, dtype, imbalance):
        return None  # whole matrices can be scaled first
    added = _growth(group) * (scale * moved + part.step.decay * weight_size)
    bound = max(added, weight_size + float(group["lr"]) * added)
    return scale * part.from_rows(result.direction), bound
