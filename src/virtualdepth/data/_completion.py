"""Matrix completion: a low-rank truth, what is observed of it, and small starts.

Source: Arora, Cohen, Hu, Luo, "Implicit Regularization in Deep Matrix Factorization", NeurIPS 2019,
arXiv 1905.13655, section 2 and the appendix on experiments.
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
        mask: (m, n), 1 where observed, else 0, in the truth's dtype.
    """

    truth: Tensor
    mask: Tensor

    @cached_property  # every gradient needs this sum over the mask
    def observed(self) -> int:
        """How many entries are observed."""
        return int(self.mask.sum())

    def objective(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient (m, n) and loss () at W (m, n), like torch.func.grad_and_value."""
        residual = (weight - self.truth) * self.mask
        return residual * (2 / self.observed), residual.square().sum() / self.observed

    def loss(self, weight: Tensor) -> Tensor:
        """Return the loss () at W (m, n), differentiable."""
        return ((weight - self.truth) * self.mask).square().sum() / self.observed

    def error(self, weight: Tensor) -> float:
        """Return the mean over all entries of (W - truth)^2."""
        return float((weight.double() - self.truth.double()).square().mean())

    def measures(self, weight: Tensor) -> dict[str, float]:
        """Return "error", "nuclear_norm" and "effective_rank" of W (m, n)."""
        return {
            "error": self.error(weight),
            "nuclear_norm": float(nuclear_norm(weight.double())),
            "effective_rank": float(effective_rank(weight.double())),
        }

    def to(self, dtype: torch.dtype) -> "Completion":
        """Return the same problem in another dtype."""
        return Completion(truth=self.truth.to(dtype), mask=self.mask.to(dtype))


def low_rank_problem(size: int, rank: int, observed: int, seed: int) -> Completion:
    """Draw U V^T of Gaussians, scaled to Frobenius norm ``size``, float64.

    ``observed`` entries are chosen uniformly without replacement.

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
    """Draw [W_1, ..., W_N], (size, size) each, of standard deviation scale^{1/N} / sqrt(size).

    A depth that is not a finite integer gives one matrix, as N = 1 does.

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
    """Return the product (size, size) of :func:`gaussian_layers`."""
    return end_to_end_product(gaussian_layers(size, depth, scale, seed))
