"""Depth on the change of a weight since its origin, in place of the weight.

The change of a pretrained layer then has the bias to low rank, as the product of a deep adapter
has (arXiv 2406.04112), at no added parameter.
"""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import gaussian_start
from virtualdepth.optim._matrix_view import MatrixView


def check_origin(name: str, parameter: Tensor) -> None:
    """Refuse a parameter whose change would drown in its rounding.

    Args:
        name: for the message.
        parameter: whose change is to have depth.

    Raises:
        TypeError: if it is of half precision.
    """
    if parameter.dtype.itemsize < 4:
        raise TypeError(
            f"{name}: expected float32 or float64 with origin='init' but got {parameter.dtype}, "
            "whose rounding is larger than the first changes; keep the weights in float32 and use "
            "autocast, or origin=None"
        )


def init_origin(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Make room for W(0), which is read at the first step: after pretrained weights are loaded.

    Args:
        state: of the parameter; changed.
        parameter: gives shape, dtype and place.

    Returns:
        ``state``.
    """
    if "origin" not in state:
        state.update(origin=torch.zeros_like(parameter), left_origin=False)
    return state


def start_of_change(parameter: Tensor, view: MatrixView, scale: float) -> Tensor:
    """Draw where the change starts: a small matrix, since the rule stands still at zero.

    Args:
        parameter: W.
        view: as matrices (m, n).
        scale: the entries have standard deviation scale / sqrt(n); they are the same in every run,
            since a generator of its own draws them.

    Returns:
        A tensor of the parameter's shape.
    """
    generator = torch.Generator().manual_seed(0)
    return view.join(gaussian_start(view.split(parameter), scale, generator), like=parameter)


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
