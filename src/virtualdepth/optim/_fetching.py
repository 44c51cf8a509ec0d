"""Matrices that are fetched from all processes: by every one of them, or by an owner."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed import (
    Agreement,
    Owned,
    from_owners,
    full_tensor,
    local_part,
    owners,
    shard_groups,
    shard_like,
    shard_sizes,
    to_owners,
)
from virtualdepth.optim._directions import precondition_group
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._parts import Part
from virtualdepth.optim._solving import MatrixGradient


def on_whole(part: Part, weight: Tensor, grad: Tensor, guard: StepGuard) -> Tensor:
    """Do with a whole matrix what is done on one process.

    Args:
        part: says which.
        weight: all of W.
        grad: all of G.
        guard: refuses what is not finite.

    Returns:
        Scaled P_W(G), shaped as the whole parameter.

    Raises:
        FloatingPointError: if a weight, gradient or direction is not finite.
        LinAlgError: if the SVD does not converge.
    """
    matrix = MatrixGradient(part.name, part.parameter, part.view, weight, grad)
    rounded = part.group["momentum"] != 0
    step = precondition_group(part.group, [matrix], guard, part.group["lr"], {}, rounded=rounded)
    guard.settle()
    return step.directions[part.parameter]


def gathered(found: Sequence[Part], agreement: Agreement, guard: StepGuard) -> dict[Tensor, Tensor]:
    """Fetch each W and G everywhere; all processes do the same work and keep their parts.

    Args:
        found: with a gradient.
        agreement: hears of failures.
        guard: refuses what is not finite.

    Returns:
        parameter -> scaled P_W(G), shaped as the local part; less what failed.
    """
    moving = {}
    for part in found:
        weight, grad = full_tensor(part.parameter), full_tensor(part.grad)
        with agreement.local_work():
            direction = on_whole(part, weight, grad, guard)
            moving[part.parameter] = shard_like(direction, like=part.parameter)
    return moving


def at_owners(
    found: Sequence[Part], agreement: Agreement, guard: StepGuard
) -> dict[Tensor, Tensor]:
    """Send each W and G to one process, which sends the parts of P_W(G) back.

    Args:
        found: with a gradient.
        agreement: hears of failures.
        guard: refuses what is not finite.

    Returns:
        parameter -> scaled P_W(G), shaped as the local part; of no use where an owner failed.
    """
    moving: dict[Tensor, Tensor] = {}
    together: dict[Any, list[Part]] = {}
    for part in found:
        (group,) = shard_groups(part.parameter)
        together.setdefault(group, []).append(part)
    for group, members in together.items():
        directions = _at_owners_in(group, members, agreement, guard)
        moving |= zip([part.parameter for part in members], directions, strict=True)
    return moving


def _at_owners_in(
    group: Any, members: Sequence[Part], agreement: Agreement, guard: StepGuard
) -> list[Tensor]:
    ranks = owners([part.matrix.flops for part in members], group.size())
    tensors = [part.parameter for part in members] + [part.grad for part in members]
    owned = [
        Owned(rank, tensor.shape, tensor.dtype, *shard_sizes(tensor))
        for rank, tensor in zip(ranks * 2, tensors, strict=True)
    ]
    wholes = to_owners(owned, [local_part(tensor) for tensor in tensors], group)
    own = [place for place in wholes if place < len(members)]
    # what fails stands as it came: the others wait for something of its size
    directions = {place: wholes[place] for place in own}
    with agreement.local_work():
        for place in own:
            weight, grad = wholes[place], wholes[len(members) + place]
            directions[place] = on_whole(members[place], weight, grad, guard)
    results = [
        each._replace(dtype=torch.promote_types(each.dtype, torch.float32))
        for each in owned[: len(members)]
    ]
    return from_owners(results, directions, group, tensors[0].device)
