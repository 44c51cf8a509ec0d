"""Matrix completion: a low-rank truth, what is observed of it, and small starts.

Source: Arora, Cohen, Hu, Luo, "Implicit Regularization in Deep Matrix Factorization", NeurIPS 2019,
arXiv 1905.13655, section 2 and appendix on the experiments.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from virtualdepth.maths import effective_rank, end_to_end_product, nuclear_norm


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Fit W where it is observed: loss = mean over the observed entries of (W - truth)^2.

    Attributes:
        truth: (m, n).
        mask: (m, n) of ones where observed, else zeros, in the truth's dtype.
    """

    truth: Tensor
    mask: Tensor

    @cached_property  # a sum over the mask, that every gradient would take anew
    def observed(self) -> int:
        """How many entries are observed."""
        return int(self.mask.sum())

    def objective(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and loss, in the order of torch.func.grad_and_value.

        Args:
            weight: W, (m, n).

        Returns:
            (m, n) and a scalar.
        """
        residual = (weight - self.truth) * self.mask
        return residual * (2 / self.observed), residual.square().sum() / self.observed

    def loss(self, weight: Tensor) -> Tensor:
        """Return the loss, differentiable.

        Args:
            weight: W, (m, n).

        Returns:
            A scalar.
        """
        return ((weight - self.truth) * self.mask).square().sum() / self.observed

    def error(self, weight: Tensor) -> float:
        """Return the mean over all entries of (W - truth)^2.

        Args:
            weight: W, (m, n).

        Returns:
            A number >= 0.
        """
        return float((weight.double() - self.truth.double()).square().mean())

    def measures(self, weight: Tensor) -> dict[str, float]:
        """Return the columns of the published table.

        Args:
            weight: W, (m, n).

        Returns:
            "error", "nuclear_norm" and "effective_rank".
        """
        return {
            "error": self.error(weight),
            "nuclear_norm": float(nuclear_norm(weight.double())),
            "effective_rank": float(effective_rank(weight.double())),
        }

    def to(self, dtype: torch.dtype) -> "Completion":
        """Return the same problem in another precision.

        Args:
            dtype: of truth and mask.

        Returns:
            A problem.
        """
        return Completion(truth=self.truth.to(dtype), mask=self.mask.to(dtype))


def low_rank_problem(size: int, rank: int, observed: int, seed: int) -> Completion:
    """Draw the published problem: U V^T of Gaussians, scaled to Frobenius norm ``size``.

    Args:
        size: rows and columns.
        rank: of the truth.
        observed: how many entries, uniform without replacement.
        seed: of truth and entries.

    Returns:
        A problem in float64.

    >>> problem = low_rank_problem(100, 5, 2000, seed=0)
    >>> problem.observed, float(problem.truth.norm())
    (2000, 100.0)
    """
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(2, size, rank, generator=generator, dtype=torch.float64)
    truth = factors[0] @ factors[1].T
    truth *= size / truth.norm()
    mask = torch.zeros(size * size, dtype=torch.float64)
    mask[torch.randperm(size * size, generator=generator)[:observed]] = 1
    return Completion(truth=truth, mask=mask.view(size, size))


def gaussian_layers(size: int, depth: float, scale: float, seed: int) -> list[Tensor]:
    """Draw the published start: N Gaussian layers of standard deviation scale^{1/N} / sqrt(size).

    Args:
        size: rows and columns.
        depth: number of layers N; anything but a finite integer gives one matrix of standard
            deviation scale / sqrt(size).
        scale: of the product.
        seed: of the layers.

    Returns:
        [W_1, ..., W_N] in float64.

    >>> len(gaussian_layers(10, 3, 1e-3, seed=0)), len(gaussian_layers(10, 2.5, 1e-3, seed=0))
    (3, 1)
    """
    layers = int(depth) if depth % 1 == 0 else 1
    generator = torch.Generator().manual_seed(seed)
    std = scale ** (1 / layers) / size**0.5
    return [
        std * torch.randn(size, size, generator=generator, dtype=torch.float64)
        for _ in range(layers)
    ]


def small_start(size: int, depth: float, scale: float, seed: int) -> Tensor:
    """Multiply :func:`gaussian_layers`: what one matrix starts from.

    Args:
        size: rows and columns.
        depth: number of layers N.
        scale: of the product.
        seed: of the layers.

    Returns:
        (size, size), float64.
    """
    return end_to_end_product(gaussian_layers(size, depth, scale, seed))
