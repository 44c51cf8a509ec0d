"""A matrix, and the same after a step: what the tests of this folder start from."""

import torch
from tests.maths.matrices import gaussian, with_spectrum
from tests.optim.truth import preconditioned
from torch import Tensor

SPECTRA = {
    "spread": torch.linspace(1, 0.02, 64, dtype=torch.float64),
    "pairs": torch.linspace(1, 0.1, 32, dtype=torch.float64).repeat_interleave(2),
    "decades": torch.logspace(0, -3, 64, dtype=torch.float64),
}


def identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def moved(kind: str, size: float, seed: int = 2) -> tuple[Tensor, Tensor]:
    """A matrix of a spectrum, and the same moved by a share of its length."""
    before = with_spectrum((64, 64), SPECTRA[kind], seed=1)
    change = gaussian(64, 64, seed=seed)
    return before, before + size * change / change.norm() * before.norm()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def truth(weight: Tensor, grad: Tensor, depth: float) -> Tensor:
    """P_W(G) by the literal formula in numpy."""
    return torch.from_numpy(preconditioned(weight.numpy(), grad.numpy(), depth))
