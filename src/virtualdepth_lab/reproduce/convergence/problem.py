r"""Targets Phi of the loss :math:`\frac12 \|W_N \cdots W_1 - \Phi\|_F^2`, and starts for them.

Source: arXiv 1810.02281, sections 3 and 5.
"""

from itertools import pairwise

import torch
from torch import Tensor

from virtualdepth.data import load_problem
from virtualdepth.maths import balanced_factors

HIDDEN = 16
EXCESS = 1e-5  # the loss at which a run has converged


def ethanol_target(data_dir: str | None) -> Tensor:
    """Return the minimum of the squared loss over whitened ethanol inputs as a column, (128, 1)."""
    ethanol = load_problem("ethanol", data_dir=data_dir)
    return ethanol.inputs.T @ ethanol.targets / len(ethanol.inputs)


def with_margin(seed: int, size: int = 3) -> tuple[Tensor, Tensor]:
    """Draw W(0) and Phi, (size, size), such that W(0) has a deficiency margin of 1/4.

    Their distance is half the smallest singular value of Phi, which is 1/2.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(2, size, size, generator=generator, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(normal[0])
    target = u * torch.linspace(1.5, 0.5, size, dtype=torch.float64) @ vh
    return target + normal[1] * (0.25 / normal[1].norm()), target


def layerwise(
    target: Tensor, depth: int, deviation: float, generator: torch.Generator
) -> list[Tensor]:
    """Draw Gaussian layers of hidden width 16; an entry of their product has this deviation."""
    layer = (deviation / HIDDEN ** ((depth - 1) / 2)) ** (1 / depth)
    sizes = [1, *[HIDDEN] * (depth - 1), len(target)]
    return [
        layer * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        for columns, rows in pairwise(sizes)
    ]


def balanced(
    target: Tensor, depth: int, deviation: float, generator: torch.Generator
) -> list[Tensor]:
    """Draw a Gaussian product of this deviation, and return balanced factors of it.

    The hidden width is 1: wider balanced layers move alike.
    """
    product = deviation * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return balanced_factors(product, depth)
