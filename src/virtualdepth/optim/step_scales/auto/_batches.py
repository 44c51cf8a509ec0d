"""What gives mini-batches away, on which steps without a learning rate stall or wander."""

import math
import warnings
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from virtualdepth.optim._finite_check import frames_to_user
from virtualdepth.optim._matrices import Group, Matrix

# of so many steps, this share changed G by more than its norm, while the norm kept this share of
# its size, or was taken back; and the norm, of the largest ever, is so many units of what the
# parameters' dtype resolves: below that all is rounding
WINDOW, _TURNED, _KEPT, _RESOLVED = 20, 0.75, 0.5, 8


def rounding(group: Group, matrices: Sequence[Matrix]) -> float:
    """Compute the squared norm of gradients below which all is the rounding of larger ones."""
    return _resolution(matrices) * float(group["auto_largest"])


def look_for_halvings(group: Group, matrices: Sequence[Matrix]) -> dict[str, Any]:
    """Count a step that is taken back, and warn where most of the last ones were."""
    backs, squares = [*group["auto_backs"], 1][-WINDOW:], group["auto_squares"]
    # at infinite depth steps by the cap alone are taken back as often at the end, see choose_steps
    often = sum(backs) >= _TURNED * WINDOW and math.isfinite(group["depth"])
    if often and squares and squares[-1] >= rounding(group, matrices):
        _warn("the loss was larger than at any of the last ten")
        backs = []
    return {"auto_backs": backs}


def look_for_batches(
    group: Group, matrices: Sequence[Matrix], square: float, change: float
) -> dict[str, Any]:
    """Note ||G||^2 and its change, and warn where gradients turn as they do on mini-batches."""
    # A step moves W by little. If G changes by more than its own norm all the same, it was mostly
    # noise, or a steep direction that the steps are about to deal with: then it shrinks.
    squares = [*group["auto_squares"], square][-WINDOW:]
    changes = [*group["auto_changes"], change][-WINDOW:]
    turned = sum(new > old for new, old in zip(changes, squares, strict=True))
    first, last = (median(part) for part in (squares[: WINDOW // 2], squares[-WINDOW // 2 :]))
    largest = max(group["auto_largest"], squares[-1])
    stays = last >= max(_KEPT**2 * first, _resolution(matrices) * largest)
    if len(squares) == WINDOW and turned >= _TURNED * WINDOW and stays:
        _warn("the gradient changed by more than its norm and did not shrink")
        squares, changes = [], []
    return {"auto_squares": squares, "auto_changes": changes, "auto_largest": largest}


def _resolution(matrices: Sequence[Matrix]) -> float:
    """Of the largest squared gradient, the share that is the dtype's rounding."""
    return (_RESOLVED * max(torch.finfo(matrix.weight.dtype).eps for matrix in matrices)) ** 2


def _warn(what: str) -> None:
    warnings.warn(
        f"step_scale='auto': at most of {WINDOW} steps {what}, as on mini-batches, where it "
        "stalls or wanders; it needs the gradient of the full batch. Use step_scale='unit' with a "
        "learning rate",
        stacklevel=frames_to_user(),
    )
