"""Depth on the change of a weight since its origin, in place of the weight.

The change of a pretrained layer then has the bias to low rank, as the product of a deep adapter
has (arXiv 2406.04112), at no added parameter.
"""

import torch
from torch import Tensor

from virtualdepth.maths import gaussian_start
from virtualdepth.optim._matrices import Matrix, State, check_full_precision


def check_origin(matrix: Matrix) -> None:
    """Refuse half precision."""
    why = "whose rounding is larger than the first changes"
    check_full_precision(matrix, "origin='init'", why)


def init_origin(state: State, parameter: Tensor) -> None:
    """Make room for W(0), which is read at the first step: after pretrained weights are loaded."""
    if "origin" not in state:
        state.update(origin=torch.zeros_like(parameter), left_origin=False)


def change_since_origin(matrix: Matrix) -> Tensor:
    """Compute W - W(0), shaped as the parameter; before the first step, its start.

    With imbalance that is zero. Balanced layers stand still there: theirs has entries of standard
    deviation origin_scale / sqrt(n), for n columns of a block, by a generator of its own: the same
    in every run.
    """
    parameter, state = matrix.parameter, matrix.state
    init_origin(state, parameter)
    if state["left_origin"]:
        change: Tensor = parameter - state["origin"].to(parameter)
        return change
    if matrix.group["imbalance"] > 0:
        return torch.zeros_like(parameter)
    generator, scale = torch.Generator().manual_seed(0), matrix.group["origin_scale"]
    matrices, (*_, columns) = matrix.view.split(parameter), matrix.view.blocks(parameter)
    start = gaussian_start(matrices.reshape(-1, columns), scale, generator)
    return matrix.view.join(start.reshape(matrices.shape), like=parameter)


def leave_origin(matrix: Matrix) -> None:
    """Remember W(0), and add the start of the change to W; once."""
    state = matrix.state
    if state["left_origin"]:
        state["origin"] = state["origin"].to(matrix.parameter)
    else:
        state["origin"] = matrix.parameter.detach().clone()
        matrix.parameter.add_(matrix.weight)
        state["left_origin"] = True
