"""The direction and the length of a step without a learning rate.

All matrices of a group take one quasi-Newton step in the metric of the rule. If that step changes a
singular value by a little more than the cap, it is shortened. If it changes one by much more, the
group takes a step along the flow instead. The cap and the curvature bound the length of that step.
If no curvature is known, the norm of W takes its place.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import (
    LinAlgError,
    Secant,
    barzilai_borwein_length,
    extent_of,
    inner_product,
    least_size,
    midpoint_step,
    quasi_newton,
    relative_change,
    secants,
)
from virtualdepth.optim.step_scales.auto._points import Moving

# A quasi-Newton step of up to _FAR caps is shortened to the cap. After a longer one, no such step
# is computed for _WAIT steps: it would seldom be taken, and it costs a quarter of a step. Both
# numbers were chosen on completions of 100 x 100 matrices. With 4 or 10 caps, runs end further from
# the flow. With 1, some runs take far longer.
_FAR, _WAIT = 2, 4
# At infinite depth the change of each singular value is measured by itself, and no step is
# shortened. With the numbers above, 5 of 9 such completions did not end, or ended far from the
# data. With these, all ended.
_INFINITE_FAR, _INFINITE_WAIT = 1, 0


def choose_steps(
    moving: Sequence[Moving], group: Mapping[str, Any], *, resolved: bool
) -> tuple[Sequence[Tensor], int]:
    """Choose what to subtract from each matrix, and for how many steps to skip quasi-Newton steps.

    ``resolved`` says that the gradients are larger than the rounding errors of earlier ones. If
    they are not, and no curvature is known, nothing moves: a step by the cap would leave a minimum.
    """
    wait, depth = group["auto_wait"], float(group["depth"])
    has_layers = math.isfinite(depth)
    far, pause = (_FAR, _WAIT) if has_layers else (_INFINITE_FAR, _INFINITE_WAIT)
    known = _secants(moving, 2 if wait else None)
    if not wait:
        found = _quasi_newton(moving, known)
        if found is not None:
            changes = [
                relative_change(
                    each.metric,
                    step,
                    together=has_layers,
                    least=least_size(depth, each.imbalance),
                )
                for each, step in zip(moving, found, strict=True)
            ]
            change = max(float(each.amax()) for each in changes)
            if change <= far * group["cap"]:
                share = min(1.0, group["cap"] / change) if change > 0 else 1.0
                return [share * step for step in found], 0
            wait = 1 + pause
    length = 0.0
    if known or resolved:
        length = min(_capped_length(moving, group), _longest(moving, group, known))
    return [_midpoint(each, length, group) for each in moving], max(wait - 1, 0)


def _secants(moving: Sequence[Moving], points: int | None) -> list[Secant]:
    """Collect the last steps and what they changed of the gradients, over all matrices."""
    weights, grads = (
        [list(point) for point in zip(*histories, strict=True)]
        for histories in (
            [each.weights[:points] for each in moving],
            [each.grads[:points] for each in moving],
        )
    )
    return secants(weights, grads)


def _quasi_newton(moving: Sequence[Moving], known: Sequence[Secant]) -> Sequence[Tensor] | None:
    """Compute the quasi-Newton step of all matrices, unless rounding made it climb."""
    grads = [each.grads[0] for each in moving]
    found = quasi_newton(grads, [each.metric for each in moving], known)
    return found if found is not None and inner_product(grads, found) > 0 else None


def _capped_length(moving: Sequence[Moving], group: Mapping[str, Any]) -> float:
    """Compute the time along the flow in which the fastest singular value changes by the cap."""
    depth = float(group["depth"])
    extents = [extent_of(m.metric.apply(m.grads[0]), depth, m.imbalance) for m in moving]
    speed = max(float(each.speed.amax()) for each in extents)
    return float(group["cap"]) / speed if speed > 0 else math.inf


def _longest(moving: Sequence[Moving], group: Mapping[str, Any], known: Sequence[Secant]) -> float:
    """Compute the time that the curvature allows; without a curvature, that the norm allows."""
    # Where singular values have settled, the cap allows steps that oscillate. The oscillation would
    # change the small singular values for good, and so lead to another minimum than the flow's. At
    # infinite depth nothing turns the row and column spaces, and only long steps end in time.
    if known and math.isfinite(group["depth"]):
        stable = barzilai_borwein_length([each.metric for each in moving], known[0])
        if math.isfinite(stable):
            return stable
    # A gradient that only turns singular vectors changes no singular value to first order. Then
    # the cap allows any length, and no known curvature bounds it.
    fastest = max(_relative_norm(each, float(group["depth"])) for each in moving)
    return 1 / fastest if fastest > 0 else 0.0  # at speed 0 nothing moves


def _relative_norm(each: Moving, depth: float) -> float:
    """Compute the largest ||P_W(G)||_F / (||W||_F + lambda^{N/2}) of a batch of matrices."""
    flow, size = (
        torch.linalg.vector_norm(matrix, dim=(-2, -1))
        for matrix in (each.metric.apply(each.grads[0]).direction, each.weights[0])
    )
    size = size + least_size(depth, each.imbalance)
    return float(torch.where(flow == 0, 0.0, flow / size).amax())


def _midpoint(each: Moving, length: float, group: Mapping[str, Any]) -> Tensor:
    """Follow the flow for the time ``length``, by the midpoint rule."""
    weight, grad = each.weights[0], each.grads[0]
    try:
        return midpoint_step(
            weight, each.metric, grad, length, float(group["depth"]), group["rtol"], each.imbalance
        )
    except LinAlgError as error:
        raise LinAlgError(f"{each.matrix.name}: {error}") from error
