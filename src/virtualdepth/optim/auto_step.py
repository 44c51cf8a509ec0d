"""``step_scale="auto"``: steps that need no learning rate, for full-batch gradients.

One quasi-Newton step in the metric of the rule for all matrices of a group, where it changes no
singular value by more than the cap, and otherwise the flow's own step of that size; see
virtualdepth.maths.quasi_newton and virtualdepth.maths.cap.
"""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import (
    EndToEndMetric,
    LinAlgError,
    end_to_end_metric,
    inner,
    midpoint_direction,
    quasi_newton,
    relative_change,
    relative_speed,
    secants,
)
from virtualdepth.optim.directions import GroupStep
from virtualdepth.optim.guard import StepGuard
from virtualdepth.optim.solving import MatrixGradient, without_autocast

POINTS = 5  # weights and gradients before the last steps, that each parameter keeps
MEMORY = 10  # losses that a step is compared with
# what gives mini-batches away: at so many steps, this share changed G by more than its norm, while
# the norm kept this share of its size, and, of the largest ever, so many units of what the
# parameters' dtype resolves: below that all is rounding
_WINDOW, _TURNED, _KEPT, _RESOLVED = 20, 0.75, 0.5, 8

State = Mapping[str, Any]


def check_auto(group: Mapping[str, Any]) -> None:
    """Refuse what has no meaning without a learning rate.

    Args:
        group: options and "params".

    Raises:
        ValueError: if a matrix is plain, or there is momentum, decay, an origin or maximize.
    """
    if group["step_scale"] != "auto":
        return
    for name in ("momentum", "weight_decay"):
        if group[name] != 0:
            raise ValueError(
                f"{name}: expected 0 with step_scale='auto', which has no learning rate that it "
                f"could go with, but got {group[name]!r}"
            )
    if group["maximize"]:
        raise ValueError("maximize: expected False with step_scale='auto' but got True")
    if group["origin"] is not None:
        raise ValueError(
            f"origin: expected None with step_scale='auto' but got {group['origin']!r}"
        )
    plain = [tuple(p.shape) for p in group["params"] if p.ndim < 2 or group["depth"] == 1]
    if plain:
        raise ValueError(
            "step_scale: expected matrices of depth > 1 only with 'auto', which chooses no step "
            f"for others, but got parameters of shape {plain}; give them a group of their own "
            "with step_scale='raw'"
        )


def init_auto(group: dict[str, Any], states: Mapping[Tensor, dict[str, Any]]) -> None:
    """Make the state that "auto" needs, unless it is there already: 2 x 5 tensors a parameter.

    Args:
        group: changed.
        states: of the optimizer; changed.
    """
    group.setdefault("auto_losses", [])
    group.setdefault("auto_squares", [])
    group.setdefault("auto_changes", [])
    group.setdefault("auto_largest", 0.0)
    for parameter in group["params"]:
        for age in range(POINTS):
            for key in (f"auto_weight_{age}", f"auto_grad_{age}"):
                if key not in states[parameter]:
                    states[parameter][key] = torch.zeros_like(parameter)
        states[parameter].setdefault("auto_points", 0)


def auto_step(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    states: Mapping[Tensor, dict[str, Any]],
    loss: float | None,
    guard: StepGuard,
) -> GroupStep:
    """Choose the step of a group's matrices; nothing changes.

    Args:
        group: options and memory.
        matrices: parameters with a gradient.
        states: of the parameters: the last points, of age 0 where the last step began.
        loss: here; None without a closure, and then no step is taken back.
        guard: what checks the matrices.

    Returns:
        Directions, divided by the learning rate that they will be multiplied by, and what to
        remember.

    Raises:
        FloatingPointError: if a weight, gradient or direction is not finite.
        LinAlgError: if an SVD does not converge.
    """
    rate, losses = float(group["lr"]), group["auto_losses"]
    loss = None if loss is None else float(loss)  # closures return tensors too
    weights = {matrix.parameter: matrix.weight for matrix in matrices}
    if rate == 0 or not matrices:
        # as checkpoints take to make state: must change nothing
        return GroupStep({p: torch.zeros_like(p) for p in weights}, weights, {})
    points = min(int(states[p]["auto_points"]) for p in weights)
    if points > 0 and loss is not None and losses and not loss <= max(losses):
        return _back(weights, states, rate)
    with ExitStack() as stack:
        for kind in {weight.device.type for weight in weights.values()}:
            stack.enter_context(without_autocast(kind))
        moving = [
            _moving(matrix, group, states[matrix.parameter], points, guard) for matrix in matrices
        ]
        steps = _steps(moving, group)
    directions = {}
    for (matrix, *_), step in zip(moving, steps, strict=True):
        scaled = step / rate
        guard.admit(matrix.name, "update", scaled)
        directions[matrix.parameter] = matrix.view.join(scaled, like=matrix.parameter)
    memory = {"auto_losses": [*losses, *([] if loss is None else [loss])][-MEMORY:]}
    if points > 0:
        memory |= _look_for_batches(group, moving)
    # a matrix that did not move has no part in this step's secant: its points do not go on
    memories = {p: {"auto_points": 0} for p in group["params"] if p not in weights}
    for matrix in matrices:
        memories[matrix.parameter] = _remembered(matrix, states[matrix.parameter], points)
    return GroupStep(directions, weights, memory, memories)


def _back(
    weights: Mapping[Tensor, Tensor], states: Mapping[Tensor, State], rate: float
) -> GroupStep:
    """Halve a step that went too far; the secants that led there are forgotten."""
    back = {p: (w - states[p]["auto_weight_0"]) / (2 * rate) for p, w in weights.items()}
    return GroupStep(back, dict(weights), {}, {p: {"auto_points": 1} for p in weights})


def _remembered(matrix: MatrixGradient, state: State, points: int) -> dict[str, Any]:
    """Put the point where this step begins before those of the last steps."""
    aged = {
        f"auto_{kind}_{age + 1}": state[f"auto_{kind}_{age}"]
        for kind in ("weight", "grad")
        for age in range(POINTS - 1)
    }
    here = {
        "auto_weight_0": matrix.weight.detach().clone(),
        "auto_grad_0": matrix.grad.detach().clone(),
    }
    return {**aged, **here, "auto_points": min(points + 1, POINTS)}


class _Moving(NamedTuple):
    """A matrix with its metric, and weights and gradients from here back to the oldest point."""

    matrix: MatrixGradient
    metric: EndToEndMetric
    weights: list[Tensor]
    grads: list[Tensor]


def _moving(
    matrix: MatrixGradient, group: Mapping[str, Any], state: State, points: int, guard: StepGuard
) -> _Moving:
    guard.admit(matrix.name, "weight", matrix.weight)
    guard.admit(matrix.name, "gradient", matrix.grad)
    dtype = torch.promote_types(matrix.weight.dtype, torch.float32)
    weights, grads = (
        [matrix.view.split(each.to(dtype)) for each in (here, *before)]
        for here, before in (
            (matrix.weight, [state[f"auto_weight_{age}"] for age in range(points)]),
            (matrix.grad, [state[f"auto_grad_{age}"] for age in range(points)]),
        )
    )
    try:
        metric = end_to_end_metric(weights[0], float(group["depth"]), group["rtol"])
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    return _Moving(matrix, metric, weights, grads)


def _steps(moving: Sequence[_Moving], group: Mapping[str, Any]) -> Sequence[Tensor]:
    """Choose what to subtract from each matrix."""
    found = _quasi_newton(moving)
    if found is not None and all(
        float(relative_change(each.metric, step).amax()) <= group["cap"]
        for each, step in zip(moving, found, strict=True)
    ):
        return found
    gradients = [each.metric.apply(each.grads[0]) for each in moving]
    speed = max(float(relative_speed(g, float(group["depth"])).amax()) for g in gradients)
    length = group["cap"] / speed if speed > 0 else 0.0  # at speed 0 the rule stands still
    turned = [
        _midpoint(each, gradient.direction, length, group)
        for each, gradient in zip(moving, gradients, strict=True)
    ]
    return [length * direction for direction in turned]


def _quasi_newton(moving: Sequence[_Moving]) -> Sequence[Tensor] | None:
    """Take the quasi-Newton step of all matrices, unless rounding made it climb."""
    weights, grads = (
        [list(point) for point in zip(*histories, strict=True)]
        for histories in ([each.weights for each in moving], [each.grads for each in moving])
    )
    found = quasi_newton(grads[0], [each.metric for each in moving], secants(weights, grads))
    return found if found is not None and inner(grads[0], found) > 0 else None


def _midpoint(each: _Moving, direction: Tensor, length: float, group: Mapping[str, Any]) -> Tensor:
    weight, grad = each.weights[0], each.grads[0]
    try:
        return midpoint_direction(
            weight, grad, direction, length, float(group["depth"]), group["rtol"]
        )
    except LinAlgError as error:
        raise LinAlgError(f"{each.matrix.name}: {error}") from error


def _look_for_batches(group: Mapping[str, Any], moving: Sequence[_Moving]) -> dict[str, Any]:
    """Warn where gradients turn as they do on mini-batches."""
    # A step moves W by little. If G changes by more than its own norm all the same, it was mostly
    # noise, or a steep direction that the steps are about to deal with: then it shrinks.
    here, before = ([each.grads[age] for each in moving] for age in (0, 1))
    change = [a - b for a, b in zip(here, before, strict=True)]
    squares = [*group["auto_squares"], inner(here, here)][-_WINDOW:]
    changes = [*group["auto_changes"], inner(change, change)][-_WINDOW:]
    turned = sum(change > square for change, square in zip(changes, squares, strict=True))
    first, last = (median(part) for part in (squares[: _WINDOW // 2], squares[-_WINDOW // 2 :]))
    largest = max(group["auto_largest"], squares[-1])
    coarsest = max(torch.finfo(each.matrix.parameter.dtype).eps for each in moving)
    stays = last >= max(_KEPT**2 * first, (_RESOLVED * coarsest) ** 2 * largest)
    if len(squares) == _WINDOW and turned >= _TURNED * _WINDOW and stays:
        warnings.warn(
            f"step_scale='auto': at most of {_WINDOW} steps the gradient changed by more than its "
            "norm and did not shrink, as on mini-batches, where it stalls or wanders; it needs the "
            "gradient of the full batch. Use step_scale='unit' with a learning rate",
            stacklevel=2,
        )
        squares, changes = [], []
    return {"auto_squares": squares, "auto_changes": changes, "auto_largest": largest}
