"""Singular triples under lasting names."""

import torch
from torch import Tensor

from virtualdepth.maths import match_triples, thin_svd

Basis = tuple[Tensor, Tensor]


class TripleTracker:
    """Follow the singular triples of a matrix that changes.

    A triple is named by its place in the first spectrum, from 0 for the largest singular value, and
    keeps the name by the overlap of its vectors from one look to the next, not by its size
    (:func:`virtualdepth.maths.match_triples`): curves that cross keep their own.

    One look costs one thin SVD and two k x k products, k = min(m, n); what is kept is two bases.

    Attributes:
        basis: U (m, k) and V^T (k, n) of the last look, in the order of the names; None before the
            first.
    """

    def __init__(self, basis: Basis | None = None) -> None:
        self.basis = basis

    def follow(self, matrix: Tensor) -> tuple[Tensor, Basis]:
        """Look at the matrix as it is now.

        Args:
            matrix: (m, n), finite.

        Returns:
            Its singular values, (k,), and its basis, both in the order of the names.
        """
        u, sigma, vh = thin_svd(matrix)
        if self.basis is not None:
            match = match_triples(self.basis, (u, vh))
            u, sigma, vh = u[:, match], sigma[match], vh[match]
        self.basis = u, vh
        return sigma, self.basis


def moved(tensors: Basis | None, device: torch.device) -> Basis | None:
    """Bring what was loaded from a checkpoint to where the matrix is.

    Args:
        tensors: two of them, or None.
        device: of the matrix.

    Returns:
        The two there.
    """
    return None if tensors is None else (tensors[0].to(device), tensors[1].to(device))


def largest(sigma: Tensor, count: int) -> list[int]:
    """Name the largest singular values.

    Args:
        sigma: in the order of the names.
        count: how many names at most.

    Returns:
        Names, the largest value's first.

    >>> largest(torch.tensor([1.0, 5.0, 3.0]), 2)
    [1, 2]
    """
    return [int(name) for name in torch.topk(sigma, min(count, sigma.numel())).indices]


def by_name(names: list[list[int]], values: list[list[float]]) -> dict[int, list[float]]:
    """Turn records of named values into one curve per name.

    Args:
        names: the names of each record.
        values: their values.

    Returns:
        Name -> one value per record, NaN where the name was not among those recorded; in the order
        of the names.

    >>> by_name([[1, 2], [2, 3]], [[5.0, 4.0], [6.0, 4.5]])
    {1: [5.0, nan], 2: [4.0, 6.0], 3: [nan, 4.5]}
    """
    rows = [dict(zip(*pair, strict=True)) for pair in zip(names, values, strict=True)]
    return {
        name: [row.get(name, float("nan")) for row in rows]
        for name in sorted({name for row in names for name in row})
    }
