"""``step_scale="auto"``: steps that need no learning rate, for full-batch gradients.

One length for all matrices of a group, by Barzilai and Borwein's rule in the metric of the rule,
with a cap on the relative change of every singular value; see virtualdepth.maths.barzilai_borwein.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import (
    EndToEndGradient,
    LinAlgError,
    Secant,
    end_to_end_gradient,
    midpoint_direction,
    relative_speed,
    secant_gradient,
)
from virtualdepth.optim.directions import GroupStep, MatrixGradient, without_autocast
from virtualdepth.optim.guard import StepGuard

MEMORY = 10  # losses that a step is compared with
# what gives mini-batches away: of so many steps, this share shorter than the one before, and the
# last shorter than the first by this factor
_WINDOW, _SHORTER, _FALL = 20, 0.75, 1e-3

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
    """Make the state that "auto" needs, unless it is there already.

    Args:
        group: changed.
        states: of the optimizer; changed.
    """
    group.setdefault("auto_losses", [])
    group.setdefault("auto_lengths", [])
    for parameter in group["params"]:
        for key in ("auto_weight", "auto_grad"):
            if key not in states[parameter]:
                states[parameter][key] = torch.zeros_like(parameter)
        states[parameter].setdefault("auto_steps", 0)


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
        states: of the parameters: weight and gradient before the last step.
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
    if loss is not None and losses and not loss <= max(losses):
        # too far: back to the middle between here and where the step began
        back = {p: (w - states[p]["auto_weight"]) / (2 * rate) for p, w in weights.items()}
        return GroupStep(back, weights, {})
    found = [_gradient(matrix, group, states[matrix.parameter], guard) for matrix in matrices]
    secants = [secant for _, secant in found if secant is not None]
    length = _length(secants)
    speed = max(float(relative_speed(g, float(group["depth"])).amax()) for g, _ in found)
    capped = group["cap"] / speed if speed > 0 else 0.0  # at speed 0 the rule stands still
    directions, memories = {}, {}
    for matrix, (gradient, _) in zip(matrices, found, strict=True):
        direction = gradient.direction
        if length >= capped:
            direction = _midpoint(matrix, direction, capped, group)
        scaled = direction * (min(length, capped) / rate)
        guard.admit(matrix.name, "update", scaled)
        directions[matrix.parameter] = matrix.view.join(scaled, like=matrix.parameter)
        memories[matrix.parameter] = {
            "auto_weight": matrix.weight.detach().clone(),
            "auto_grad": matrix.grad.detach().clone(),
            "auto_steps": states[matrix.parameter]["auto_steps"] + 1,
        }
    memory = {"auto_losses": [*losses, *([] if loss is None else [loss])][-MEMORY:]}
    memory["auto_lengths"] = _look_for_batches([*group["auto_lengths"], min(length, capped)])
    return GroupStep(directions, weights, memory, memories)


def _gradient(
    matrix: MatrixGradient, group: Mapping[str, Any], state: State, guard: StepGuard
) -> tuple[EndToEndGradient, Secant | None]:
    guard.admit(matrix.name, "weight", matrix.weight)
    guard.admit(matrix.name, "gradient", matrix.grad)
    depth, rtol, split = float(group["depth"]), group["rtol"], matrix.view.split
    weight, grad = split(matrix.weight), split(matrix.grad)
    try:
        with without_autocast(weight.device.type):
            if state["auto_steps"] == 0:
                return end_to_end_gradient(weight, grad, depth, rtol), None
            before = split(state["auto_weight"]), split(state["auto_grad"])
            return secant_gradient(weight, grad, *before, depth, rtol)
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error


def _midpoint(
    matrix: MatrixGradient, direction: Tensor, length: float, group: Mapping[str, Any]
) -> Tensor:
    weight, grad = matrix.view.split(matrix.weight), matrix.view.split(matrix.grad)
    try:
        with without_autocast(weight.device.type):
            return midpoint_direction(
                weight, grad, direction, length, float(group["depth"]), group["rtol"]
            )
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error


def _length(secants: Sequence[Secant]) -> float:
    """Join the secants of the group's matrices."""
    if not secants:
        return math.inf
    curvature, metric = (
        sum(float(inner) for inner in inners) for inners in zip(*secants, strict=True)
    )
    return curvature / metric if curvature > 0 else math.inf


def _look_for_batches(lengths: list[float]) -> list[float]:
    """Warn where the lengths fall as they do on mini-batches."""
    # Where G is mostly noise, dW = -eta P(G) makes <dW, dG> / <dG, P dG> = eta / 2 on average: the
    # lengths halve until nothing moves. Those of a full batch go up and down.
    recent = lengths[-_WINDOW - 1 :]
    shorter = sum(after < before for before, after in pairwise(recent))
    if shorter >= _SHORTER * _WINDOW and recent[-1] < _FALL * recent[0]:
        warnings.warn(
            f"step_scale='auto': {shorter} of {_WINDOW} steps were shorter than the one before, "
            f"the last {recent[-1] / recent[0]:.0e} times the first, as on mini-batches, where it "
            "stalls; it needs the gradient of the full batch. Use step_scale='unit' with a "
            "learning rate",
            stacklevel=2,
        )
        return []
    return recent
