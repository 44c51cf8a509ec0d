"""Two linear networks trained from different seeds, and the losses along a path between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from virtualdepth.maths import end_to_end_product, factor_gradients, partial_products

Network = list[Tensor]
START = 0.5  # deviation of the weights before training


@dataclass(frozen=True)
class Regression:
    """Fewer samples than inputs, so many solutions: inputs (n, s), targets (m, s)."""

    inputs: Tensor
    targets: Tensor

    def loss(self, factors: Sequence[Tensor]) -> float:
        """Compute half of the mean squared error of a network."""
        return float((self._residual(end_to_end_product(factors))).square().sum()) / self._scale

    def train(self, widths: Sequence[int], seed: int) -> Network:
        """Minimise over the layers by L-BFGS from a Gaussian start."""
        sizes = [len(self.inputs), *widths, len(self.targets)]
        generator = torch.Generator().manual_seed(seed)
        start = [
            START * torch.randn(after, before, generator=generator, dtype=torch.float64)
            for before, after in pairwise(sizes)
        ]
        lengths, shapes = [each.numel() for each in start], [each.shape for each in start]

        def layers(flat: np.ndarray) -> Network:
            pieces = torch.split(torch.from_numpy(flat), lengths)
            return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            factors = layers(flat)
            products = partial_products(factors)
            residual = self._residual(products[-1])
            grad = residual @ self.inputs.T * (2 / self._scale)
            grads = factor_gradients(factors, products, grad)
            return float(residual.square().sum()) / self._scale, _flat(grads).numpy()

        options = {"maxiter": 3000, "ftol": 0, "gtol": 1e-9}
        found = minimize(
            objective, _flat(start).numpy(), jac=True, method="L-BFGS-B", options=options
        )
        return [factor.clone() for factor in layers(found.x)]

    def _residual(self, weight: Tensor) -> Tensor:
        return weight @ self.inputs - self.targets

    @property
    def _scale(self) -> float:
        return 2.0 * self.inputs.shape[1]


def draw_regression(outputs: int, inputs: int, samples: int, seed: int) -> Regression:
    """Draw Gaussian inputs and targets."""
    generator = torch.Generator().manual_seed(seed)
    return Regression(
        *(
            torch.randn(size, samples, generator=generator, dtype=torch.float64)
            for size in (inputs, outputs)
        )
    )


def straight_line(first: Network, second: Network, points: int) -> list[Network]:
    """Interpolate all weights."""
    return [
        [(1 - time) * a + time * b for a, b in zip(first, second, strict=True)]
        for time in np.linspace(0, 1, points)
    ]


def largest_step(path: Sequence[Network]) -> float:
    """Compute the largest distance between neighbours of a path, over all weights."""
    return max(
        size_of([b - a for a, b in zip(one, other, strict=True)]) for one, other in pairwise(path)
    )


def size_of(network: Network) -> float:
    """Compute the norm of all weights."""
    return float(_flat(network).norm())


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
