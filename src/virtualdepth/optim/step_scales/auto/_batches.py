"""Signs of mini-batches, on which steps without a learning rate stall or wander."""

import math
import warnings
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from virtualdepth.optim._finite_check import frames_to_user
from virtualdepth.optim._matrices import Group, Matrix

WINDOW = 20  # the last steps that are looked at
_OFTEN = 0.75  # the share of them that has to show a sign
_STAYS = 0.5  # the share of its norm that G must have kept
_RESOLVED = 8  # G below so many units of rounding of the largest G ever is noise


class MiniBatchWarning(UserWarning):
    """Steps of ``step_scale="auto"`` look as if the gradients were of mini-batches."""


def rounding(group: Group, matrices: Sequence[Matrix]) -> float:
    """Compute the squared norm below which a gradient is the rounding error of larger ones."""
    return _resolution(matrices) * float(group["auto_largest"])


def look_for_halvings(group: Group, matrices: Sequence[Matrix]) -> dict[str, Any]:
    """Count a step that is taken back, and warn if most of the last steps were."""
    backs, squares = [*group["auto_backs"], 1][-WINDOW:], group["auto_squares"]
    # at infinite depth the last steps of a good run are taken back as often, see choose_steps
    often = sum(backs) >= _OFTEN * WINDOW and math.isfinite(group["depth"])
    if often and squares and squares[-1] >= rounding(group, matrices):
        _warn("the loss was larger than at any of the last ten")
        backs = []
    return {"auto_backs": backs}


def look_for_batches(
    group: Group, matrices: Sequence[Matrix], square: float, change: float
) -> dict[str, Any]:
    """Note ||G||^2 and its change, and warn if gradients change as they do on mini-batches."""
    # A step moves W by little. If G still changes by more than its own norm, it is mostly noise, or
    # it lies along a steep direction. In the second case G shrinks over the next steps.
    squares = [*group["auto_squares"], square][-WINDOW:]
    changes = [*group["auto_changes"], change][-WINDOW:]
    turned = sum(new > old for new, old in zip(changes, squares, strict=True))
    first, last = (median(part) for part in (squares[: WINDOW // 2], squares[-WINDOW // 2 :]))
    largest = max(group["auto_largest"], squares[-1])
    stays = last >= max(_STAYS**2 * first, _resolution(matrices) * largest)
    if len(squares) == WINDOW and turned >= _OFTEN * WINDOW and stays:
        _warn("the gradient changed by more than its norm and did not shrink")
        squares, changes = [], []
    return {"auto_squares": squares, "auto_changes": changes, "auto_largest": largest}


def _resolution(matrices: Sequence[Matrix]) -> float:
    """Compute which share of the largest squared gradient is rounding error of the dtype."""
    return (_RESOLVED * max(torch.finfo(matrix.weight.dtype).eps for matrix in matrices)) ** 2


def _warn(what: str) -> None:
    warnings.warn(
        f"step_scale='auto': at most of {WINDOW} steps {what}, as on mini-batches, where it "
        "stalls or wanders; it needs the gradient of the full batch. Use step_scale='unit' with a "
        "learning rate",
        MiniBatchWarning,
        stacklevel=frames_to_user(),
    )
