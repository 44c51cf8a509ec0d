"""Matrices with chosen spectra, and the cases that the tests of this folder cross."""

import math

import torch
from torch import Tensor

DEPTHS = (1, 1.5, 2, 3, math.pi, 8, 50, math.inf)
SHAPES = (
    (1, 1),
    (1, 7),
    (7, 1),
    (2, 2),
    (3, 3),
    (2, 5),
    (5, 2),
    (6, 6),
    (4, 9),
    (9, 4),
    (2, 40),
    (40, 2),
)


def generator(*key: float) -> torch.Generator:
    """Seed by the case, so that no two cases share numbers and every run repeats them."""
    return torch.Generator().manual_seed(hash(key) % 2**63)


def gaussian(*shape: int, seed: float = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    numbers = torch.randn(*shape, dtype=torch.float64, generator=generator(*shape, seed))
    return numbers.to(dtype)


def orthonormal(rows: int, columns: int, seed: float = 0) -> Tensor:
    """(rows, columns) with orthonormal columns."""
    return torch.linalg.qr(gaussian(rows, columns, seed=seed))[0]


def with_spectrum(shape: tuple[int, int], sigma: Tensor, seed: float = 0) -> Tensor:
    """A matrix with the given singular values and random singular vectors."""
    m, n = shape
    k = len(sigma)
    return orthonormal(m, k, seed=seed) * sigma @ orthonormal(n, k, seed=seed + 0.5).T


def spectrum(kind: str, k: int) -> Tensor:
    ramp = torch.arange(k, dtype=torch.float64)
    noise = torch.rand(k, dtype=torch.float64, generator=generator(k))
    return {
        "six decades below 1": torch.logspace(0, -6, k, dtype=torch.float64),
        "six decades round 1": torch.logspace(3, -3, k, dtype=torch.float64),
        "equal": torch.full((k,), 0.7, dtype=torch.float64),
        "equal to 1e-9": 1 + 1e-9 * ramp,
        "equal to 1e-15": 1 + 1e-15 * ramp,
        "near 1e-6": 1e-6 * (1 + noise),
        "near 1e6": 1e6 * (1 + noise),
    }[kind]


SPECTRA = (
    "six decades below 1",
    "six decades round 1",
    "equal",
    "equal to 1e-9",
    "equal to 1e-15",
    "near 1e-6",
    "near 1e6",
)


def permuted_diagonal(shape: tuple[int, int], sigma: Tensor, seed: float = 0) -> Tensor:
    """A matrix whose entries are the singular values themselves, so that zeros are exact."""
    m, n = shape
    source = generator(m, n, seed)
    rows = torch.randperm(m, generator=source)[: len(sigma)]
    columns = torch.randperm(n, generator=source)[: len(sigma)]
    matrix = torch.zeros(shape, dtype=torch.float64)
    signs = (-1.0) ** torch.arange(len(sigma))
    matrix[rows, columns] = sigma * signs
    return matrix
