"""Tensors of few components of which a part of the entries is seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.networks import FactorizedTensor, init


@dataclass(frozen=True)
class Completion:
    """A tensor, and which of its entries are seen (1) or not (0); both of one shape."""

    truth: Tensor
    seen: Tensor

    def observed_share(self, tensor: Tensor) -> Tensor:
        """Compute the squared residual of the seen entries over their squares."""
        residual = (tensor - self.truth) * self.seen
        return residual.square().sum() / (self.truth * self.seen).square().sum()

    def error(self, tensor: Tensor) -> float:
        """Compute the relative distance from the truth, over all entries."""
        return float((tensor - self.truth).norm() / self.truth.norm())


def draw_completion(
    model: FactorizedTensor, observed: int, norm: float, generator: torch.Generator
) -> Completion:
    """Draw Gaussian factors of the model, scale its tensor to ``norm``, and choose entries."""
    init.near_zero_(model, 1.0, generator=generator)
    truth = model.tensor().detach()
    truth = truth * (norm / truth.norm())
    chosen = torch.randperm(truth.numel(), generator=generator)[:observed]
    seen = torch.zeros(truth.numel(), dtype=truth.dtype)
    seen[chosen] = 1
    return Completion(truth, seen.view(truth.shape))


def matricisation_rank(tensor: Tensor, rows: list[int]) -> int:
    """Compute the rank of the matrix whose rows are some axes, and whose columns are the others."""
    columns = [axis for axis in range(tensor.ndim) if axis not in rows]
    matrix = tensor.permute(*rows, *columns).flatten(0, len(rows) - 1).flatten(1)
    return int(torch.linalg.matrix_rank(matrix))
