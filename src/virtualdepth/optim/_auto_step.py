"""``step_scale="auto"``: steps that need no learning rate, for full-batch gradients.

What they remember, when one is halved, and what gives mini-batches away; which way they go is in
virtualdepth.optim._auto_direction.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import LinAlgError, inner_product, preconditioner
from virtualdepth.optim._auto_direction import Moving, choose_steps
from virtualdepth.optim._directions import GroupStep
from virtualdepth.optim._guard import StepGuard, frames_to_user
from virtualdepth.optim._solving import MatrixGradient, without_autocast

POINTS = 5  # weights and gradients before the last steps, that each parameter keeps
MEMORY = 10  # losses that a step is compared with
# what gives mini-batches away: of so many steps, this share changed G by more than its norm, while
# the norm kept this share of its size, or was taken back; and the norm, of the largest ever, is so
# many units of what the parameters' dtype resolves: below that all is rounding
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
    group.setdefault("auto_wait", 0)
    group.setdefault("auto_backs", [])
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
        return _back(group, matrices, states, rate)
    with ExitStack() as stack:
        for kind in {weight.device.type for weight in weights.values()}:
            stack.enter_context(without_autocast(kind))
        moving = [
            _moving(matrix, group, states[matrix.parameter], points, guard) for matrix in matrices
        ]
        here = [each.grads[0] for each in moving]
        square = inner_product(here, here)
        resolved = square > _resolution(weights) * group["auto_largest"]
        steps, wait = choose_steps(moving, group, resolved=resolved)
    directions = {}
    for (matrix, *_), step in zip(moving, steps, strict=True):
        scaled = step / rate
        guard.admit(matrix.name, "update", scaled)
        directions[matrix.parameter] = matrix.view.join(scaled, like=matrix.parameter)
    losses = [*losses, *([] if loss is None else [loss])][-MEMORY:]
    backs = [*group["auto_backs"], 0][-_WINDOW:]
    memory = {"auto_losses": losses, "auto_wait": wait, "auto_backs": backs}
    if points > 0:
        turn = [each.grads[0] - each.grads[1] for each in moving]
        memory |= _look_for_batches(group, weights, square, inner_product(turn, turn))
    # a matrix that did not move has no part in this step's secant: its points do not go on
    memories = {p: {"auto_points": 0} for p in group["params"] if p not in weights}
    for matrix in matrices:
        memories[matrix.parameter] = _remembered(matrix, states[matrix.parameter], points)
    return GroupStep(directions, weights, memory, memories)


def _back(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    states: Mapping[Tensor, State],
    rate: float,
) -> GroupStep:
    """Halve a step that went too far; the secants that led there are forgotten."""
    weights = {matrix.parameter: matrix.weight for matrix in matrices}
    back = {p: (w - states[p]["auto_weight_0"]) / (2 * rate) for p, w in weights.items()}
    memory: dict[str, Any] = {"auto_backs": [*group["auto_backs"], 1][-_WINDOW:]}
    # at infinite depth steps by the cap alone are taken back as often at the end, see choose_steps
    often = sum(memory["auto_backs"]) >= _TURNED * _WINDOW and math.isfinite(group["depth"])
    if often and _above_rounding(group, weights):
        _warn("the loss was larger than at any of the last ten")
        memory["auto_backs"] = []
    return GroupStep(back, weights, memory, {p: {"auto_points": 1} for p in weights})


def _above_rounding(group: Mapping[str, Any], weights: Iterable[Tensor]) -> bool:
    squares = group["auto_squares"]
    return bool(squares) and squares[-1] >= _resolution(weights) * group["auto_largest"]


def _warn(what: str) -> None:
    warnings.warn(
        f"step_scale='auto': at most of {_WINDOW} steps {what}, as on mini-batches, where it "
        "stalls or wanders; it needs the gradient of the full batch. Use step_scale='unit' with a "
        "learning rate",
        stacklevel=frames_to_user(),
    )


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


def _moving(
    matrix: MatrixGradient, group: Mapping[str, Any], state: State, points: int, guard: StepGuard
) -> Moving:
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
        metric = preconditioner(weights[0], float(group["depth"]), group["rtol"])
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    return Moving(matrix, metric, weights, grads)


def _look_for_batches(
    group: Mapping[str, Any], weights: Iterable[Tensor], square: float, change: float
) -> dict[str, Any]:
    """Warn where gradients turn as they do on mini-batches."""
    # A step moves W by little. If G changes by more than its own norm all the same, it was mostly
    # noise, or a steep direction that the steps are about to deal with: then it shrinks.
    squares = [*group["auto_squares"], square][-_WINDOW:]
    changes = [*group["auto_changes"], change][-_WINDOW:]
    turned = sum(new > old for new, old in zip(changes, squares, strict=True))
    first, last = (median(part) for part in (squares[: _WINDOW // 2], squares[-_WINDOW // 2 :]))
    largest = max(group["auto_largest"], squares[-1])
    stays = last >= max(_KEPT**2 * first, _resolution(weights) * largest)
    if len(squares) == _WINDOW and turned >= _TURNED * _WINDOW and stays:
        _warn("the gradient changed by more than its norm and did not shrink")
        squares, changes = [], []
    return {"auto_squares": squares, "auto_changes": changes, "auto_largest": largest}


def _resolution(weights: Iterable[Tensor]) -> float:
    """Of the largest squared gradient, the share that is the dtype's rounding."""
    return (_RESOLVED * max(torch.finfo(weight.dtype).eps for weight in weights)) ** 2
