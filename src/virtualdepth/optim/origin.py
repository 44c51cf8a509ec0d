"""Depth on the change of a weight since its origin, in place of the weight.

The change of a pretrained layer then has the bias to low rank, as the product of a deep adapter
has (arXiv 2406.04112), at no added parameter.
"""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import gaussian_start


def init_origin(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Make room for W(0), which is read at the first step: after pretrained weights are loaded.

    Args:
        state: of the parameter; changed.
        parameter: gives shape, dtype and place.

    Returns:
        ``state``.
    """
    if "origin" not in state:
        state["origin"] = torch.zeros_like(parameter)
        state["left_origin"] = False
    return state


def change_since_origin(
    state: dict[str, Any], parameter: Tensor, scale: float, seed: int
) -> Tensor:
    """Return W - W(0); before the first step a small start, without which the rule stands still.

    Args:
        state: of the parameter.
        parameter: W.
        scale: the entries of the start have standard deviation scale / sqrt(n).
        seed: of a generator of its own that draws the start.

    Returns:
        A tensor of the parameter's shape.
    """
    if state["left_origin"]:
        change: Tensor = parameter - state["origin"]
        return change
    generator = torch.Generator().manual_seed(seed)
    return gaussian_start(parameter.flatten(1), scale, generator).view_as(parameter)


def leave_origin(state: dict[str, Any], parameter: Tensor, start: Tensor) -> None:
    """Remember W(0) and add the start of the change, once.

    Args:
        state: of the parameter; changed.
        parameter: W; changed.
        start: of the change.
    """
    state["origin"].copy_(parameter)
    parameter.add_(start)
    state["left_origin"] = True
