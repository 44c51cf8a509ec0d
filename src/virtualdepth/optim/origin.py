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


def origin_start(parameter: Tensor, scale: float, seed: int) -> Tensor:
    """Draw the small start of the change, without which the rule would stand still.

    Args:
        parameter: gives shape, dtype and place.
        scale: its entries have standard deviation scale / sqrt(n).
        seed: of a generator of its own.

    Returns:
        A tensor of the parameter's shape.
    """
    generator = torch.Generator().manual_seed(seed)
    return gaussian_start(parameter.flatten(1), scale, generator).view_as(parameter)


def leave_origin(state: dict[str, Any], parameter: Tensor, start: Tensor) -> None:
    """At the first step, remember W(0) and add the start; later do nothing.

    Args:
        state: of the parameter; changed.
        parameter: W; changed at the first step.
        start: of the change.
    """
    if not state["left_origin"]:
        state["origin"].copy_(parameter)
        parameter.add_(start)
        state["left_origin"] = True
