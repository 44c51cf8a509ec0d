"""What a step is about to write, checked before anything is written."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from virtualdepth.optim._finite_check import DISTRIBUTED, FiniteCheck, Peak, entries
from virtualdepth.optim._matrices import GroupStep


class _Moving(NamedTuple):
    """A parameter with the largest entries of its weight and of its direction."""

    name: str
    parameter: Tensor
    weight: Peak
    direction: Peak


def check_new_values(steps: Sequence[GroupStep], finite: FiniteCheck) -> None:
    """Refuse a step after which a weight, a momentum or a state would not be finite.

    The largest entries of the weight W, the direction d and the momentum b bound the new momentum
    mu b + (1 - tau) d and the new weight. So nothing is computed twice, and no copy is made.

    Raises:
        RuntimeError: if a gradient is sparse where torch wants a dense one.
    """
    several = DISTRIBUTED and dist.is_initialized()
    for step in steps:
        moving = []
        for matrix in step.matrices:
            if matrix.direction is None:
                continue  # its solver has checked what it writes
            name, p, weight = matrix.name, matrix.parameter, matrix.weight_peak
            direction = matrix.direction_peak + step.decay * weight
            if step.group["origin"] is not None:  # it was the peak of the change
                weight = weight + finite.check(name, "weight at the origin", p)
            moving.append(_Moving(name, p, weight, direction))
        for name, p, grad in step.plain:
            decay, held = step.group["weight_decay"], p
            if grad.is_sparse and decay != 0:  # torch would find out in the middle of the step
                raise RuntimeError(
                    f"{name}: expected a dense gradient with weight_decay={decay} but got a sparse "
                    "one; give its group weight_decay=0"
                )
            if several or p.is_complex() or grad.is_sparse or not p.numel():
                held, grad = entries(p), entries(grad)
            weight = finite.check(name, "parameter", held)
            direction = finite.check(name, "gradient", grad) + decay * weight
            moving.append(_Moving(name, p, weight, direction))
        _check_bounds(step, moving, finite)


def _check_bounds(step: GroupStep, moving: Sequence[_Moving], finite: FiniteCheck) -> None:
    """Bound the new momentum and the new weight of each parameter of a group."""
    lr, momentum = float(step.group["lr"]), step.group["momentum"]
    for name, parameter, weight, direction in moving:
        update = direction
        if momentum != 0:
            # the first step takes the whole direction, whatever the dampening is
            update = max(1.0, abs(1 - step.group["dampening"])) * direction
            buffer = step.states.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                if buffer.shape != parameter.shape:
                    raise ValueError(
                        f"{name}: expected a momentum of its shape {tuple(parameter.shape)} but "
                        f"got {tuple(buffer.shape)}; the step was not taken"
                    )
                update = update + momentum * finite.check(name, "momentum", entries(buffer))
            finite.check_bound(name, "new momentum", update, parameter.dtype)
            if step.group["nesterov"]:
                update = direction + momentum * update
        finite.check_bound(name, "new weight", weight + lr * update, parameter.dtype)
