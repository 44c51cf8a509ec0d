"""Two points of a separable problem, and helpers for literal formulas."""

import torch
from torch import Tensor

from virtualdepth_lab.reproduce.margin.problem import Separable

TWO = Separable(
    name="two points",
    inputs=torch.tensor([[1.0, 0.0], [0.0, -0.5]], dtype=torch.float64),
    labels=torch.tensor([1, 0]),
)


def vector(*entries: float) -> Tensor:
    """A row of these entries."""
    return torch.tensor([entries], dtype=torch.float64)


def signed(problem: Separable) -> Tensor:
    """The inputs of class 1, and those of class 0 with the other sign."""
    return (2 * problem.labels - 1).unsqueeze(1) * problem.inputs
