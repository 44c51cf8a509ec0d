"""Matrices that are fetched from all processes: by every process, or by one owner."""

from collections.abc import Sequence
from dataclasses import replace
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
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import GroupStep
from virtualdepth.optim.sharded._parameters import Part
from virtualdepth.optim.step_scales import STEP_SCALES


def on_whole(part: Part, weight: Tensor, grad: Tensor, finite: FiniteCheck) -> Tensor:
    """Compute scaled P_W(G) from all of W and G, or of whole blocks; shaped as W."""
    matrix, group = part.matrix, part.group
    kind = matrix.kind if weight.shape == part.parameter.shape else "part of the weight"
    here = replace(matrix, weight=weight, kind=kind)
    here.grad = grad
    scale, rounded = STEP_SCALES[group["step_scale"]], group["momentum"] != 0
    step = GroupStep(group, part.number, {}, matrices=[here])
    scale.compute(step, finite, lr=group["lr"], rounded=rounded)
    finite.raise_pending()
    assert here.direction is not None
    return here.direction


def gathered(
    sharded: Sequence[Part], agreement: Agreement, finite: FiniteCheck
) -> dict[Tensor, Tensor]:
    """Fetch each W and G on every process. All do the same work, and each takes its part.

    Returns parameter -> scaled P_W(G), shaped as the local part. What failed is missing.
    """
    moving = {}
    for part in sharded:
        weight, grad = full_tensor(part.parameter), full_tensor(part.grad)
        with agreement.local_work():
            direction = on_whole(part, weight, grad, finite)
            moving[part.parameter] = shard_like(direction, like=part.parameter)
    return moving


def at_owners(
    sharded: Sequence[Part], agreement: Agreement, finite: FiniteCheck
) -> dict[Tensor, Tensor]:
    """Send each W and G to one process, its owner, which sends the parts of P_W(G) back.

    Returns parameter -> scaled P_W(G), shaped as the local part. Where the owner failed, the
    numbers mean nothing.
    """
    moving: dict[Tensor, Tensor] = {}
    together: dict[Any, list[Part]] = {}
    for part in sharded:
        (group,) = shard_groups(part.parameter)
        together.setdefault(group, []).append(part)
    for group, members in together.items():
        directions = _at_owners_in(group, members, agreement, finite)
        moving |= zip([part.parameter for part in members], directions, strict=True)
    return moving


def _at_owners_in(
    group: Any, members: Sequence[Part], agreement: Agreement, finite: FiniteCheck
) -> list[Tensor]:
    """Do the same within one process group."""
    ranks = owners([part.layout.flops for part in members], group.size())
    tensors = [part.parameter for part in members] + [part.grad for part in members]
    owned = [
        Owned(rank, tensor.shape, tensor.dtype, *shard_sizes(tensor))
        for rank, tensor in zip(ranks * 2, tensors, strict=True)
    ]
    wholes = to_owners(owned, [local_part(tensor) for tensor in tensors], group)
    own = [place for place in wholes if place < len(members)]
    # if the work fails, W is sent back: the other processes wait for something of its size
    directions = {place: wholes[place] for place in own}
    with agreement.local_work():
        for place in own:
            weight, grad = wholes[place], wholes[len(members) + place]
            directions[place] = on_whole(members[place], weight, grad, finite)
    results = [
        each._replace(dtype=torch.promote_types(each.dtype, torch.float32))
        for each in owned[: len(members)]
    ]
    return from_owners(results, directions, group, tensors[0].device)
