"""Flat numbers that stand for a matrix while scipy's solvers move it."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    factor_gradients,
    partial_products,
    preconditioned_gradient,
)

# W, (m, n) -> gradient, loss
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


class Coordinates(Protocol):
    """Flat numbers that a solver moves, from ``start`` on."""

    start: Tensor

    def weight(self, state: Tensor) -> Tensor:
        """Return W, (m, n)."""

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return the flow's flat velocity, and the loss."""


class EndToEndCoordinates:
    """W itself, (m, n), under dW/dt = -P_W(G)."""

    def __init__(self, weight: Tensor, depth: float) -> None:
        self.start = weight.flatten()
        self._shape, self._depth = weight.shape, depth

    def weight(self, state: Tensor) -> Tensor:
        """Return W, (m, n)."""
        return state.view(self._shape)

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Compute -P_W(G), flat, and the loss."""
        weight = self.weight(state)
        grad, loss = objective(weight)
        direction = preconditioned_gradient(weight, grad, self._depth).direction
        return -direction.flatten(), loss


class FactorCoordinates:
    """Balanced factors of W, each under its own gradient: the same flow without an SVD."""

    def __init__(self, weight: Tensor, depth: int) -> None:
        factors = balanced_factors(weight, depth)
        self.start = torch.cat([factor.flatten() for factor in factors])
        self._shapes = [factor.shape for factor in factors]
        self._sizes = [factor.numel() for factor in factors]

    def _factors(self, state: Tensor) -> list[Tensor]:
        """View the flat numbers as [W_1, ..., W_N]."""
        pieces = torch.split(state, self._sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def weight(self, state: Tensor) -> Tensor:
        """Multiply the factors to W, (m, n)."""
        return partial_products(self._factors(state))[-1]

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Compute the negative gradient by each factor, flat, and the loss."""
        factors = self._factors(state)
        products = partial_products(factors)
        grad, loss = objective(products[-1])
        gradients = factor_gradients(factors, products, -grad)
        return torch.cat([gradient.flatten() for gradient in gradients]), loss
