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

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


class Coordinates(Protocol):
    """What a solver moves.

    Attributes:
        start: flat.
    """

    start: Tensor

    def weight(self, state: Tensor) -> Tensor:
        """Return W, (m, n)."""

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Return the flow's flat velocity and the loss."""


class EndToEndCoordinates:
    """W itself, under dW/dt = -P_W(G).

    Args:
        weight: the start, (m, n).
        depth: a valid depth.
    """

    def __init__(self, weight: Tensor, depth: float) -> None:
        self.start = weight.flatten()
        self._shape, self._depth = weight.shape, depth

    def weight(self, state: Tensor) -> Tensor:
        """Return W.

        Args:
            state: flat.

        Returns:
            (m, n).
        """
        return state.view(self._shape)

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Compute -P_W(G).

        Args:
            state: flat.
            objective: W -> (gradient, loss).

        Returns:
            Flat velocity and loss.
        """
        weight = self.weight(state)
        grad, loss = objective(weight)
        direction = preconditioned_gradient(weight, grad, self._depth).direction
        return -direction.flatten(), loss


class FactorCoordinates:
    """Balanced factors of W, each under its own gradient: the same flow without an SVD.

    Args:
        weight: the start, (m, n).
        depth: number of layers N.
    """

    def __init__(self, weight: Tensor, depth: int) -> None:
        factors = balanced_factors(weight, depth)
        self.start = torch.cat([factor.flatten() for factor in factors])
        self._shapes = [factor.shape for factor in factors]
        self._sizes = [factor.numel() for factor in factors]

    def _factors(self, state: Tensor) -> list[Tensor]:
        pieces = torch.split(state, self._sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def weight(self, state: Tensor) -> Tensor:
        """Multiply the factors out.

        Args:
            state: flat.

        Returns:
            (m, n).
        """
        return partial_products(self._factors(state))[-1]

    def velocity(self, state: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Compute each factor's negative gradient.

        Args:
            state: flat.
            objective: W -> (gradient, loss).

        Returns:
            Flat velocity and loss.
        """
        factors = self._factors(state)
        products = partial_products(factors)
        grad, loss = objective(products[-1])
        gradients = factor_gradients(factors, products, -grad)
        return torch.cat([gradient.flatten() for gradient in gradients]), loss
