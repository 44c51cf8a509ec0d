"""Singular triples (u_r, sigma_r, v_r) that keep their places while the matrix changes."""

import torch
from torch import Tensor

from virtualdepth.maths import StructureName, block_svd, match_triples

Basis = tuple[Tensor, Tensor]
"""U (..., m, k) and V^T (..., k, n), in the order of the first record; k = min(m, n)."""


class SingularTriples:
    """The singular triples of a matrix that changes, in an order that follows each of them.

    A triple's place is that in the first spectrum, 0 for the largest singular value. Later it is
    recognised by the overlap of its singular vectors (:func:`virtualdepth.maths.match_triples`),
    not by its size. Blocks of another structure are known by their places; only within a block are
    triples recognised.
    """

    def __init__(self, structure: StructureName = "matrix", basis: Basis | None = None) -> None:
        self.structure = structure
        self.basis = basis

    def update(self, blocks: Tensor) -> Tensor:
        """Decompose W, (..., m, n); return its singular values, (..., k), by their places."""
        u, sigma, vh = block_svd(blocks)
        if self.basis is not None and sigma.shape[-1] > 1:
            pairs = zip(*(_listed(each) for each in (*self.basis, u, vh)), strict=True)
            matches = [match_triples((a, b), (c, d)) for a, b, c, d in pairs]
            match = torch.stack(matches).reshape(sigma.shape)
            u = u.take_along_dim(match.unsqueeze(-2), -1)
            sigma = sigma.take_along_dim(match, -1)
            vh = vh.take_along_dim(match.unsqueeze(-1), -2)
        self.basis = u, vh
        return sigma


def _listed(matrices: Tensor) -> Tensor:
    """Flatten (..., m, n) to (number, m, n)."""
    return matrices.reshape(-1, *matrices.shape[-2:])


def moved(pair: Basis | None, device: torch.device) -> Basis | None:
    """Return two tensors on ``device``: those of a checkpoint are on the CPU."""
    return None if pair is None else (pair[0].to(device), pair[1].to(device))


def largest(sigma: Tensor, count: int) -> list[int]:
    """Return the places of the ``count`` largest singular values, the largest first.

    >>> largest(torch.tensor([1.0, 5.0, 3.0]), 2)
    [1, 2]
    """
    return [int(place) for place in torch.topk(sigma, min(count, sigma.numel())).indices]


def labels(places: list[int], structure: StructureName) -> list[int]:
    """Return the names of the largest singular values of a record, whatever the others were.

    Those of a matrix are numbered by size. Sizes of blocks are named by the places of the blocks.

    >>> labels([4, 2], "matrix"), labels([4, 2], "rows")
    ([1, 2], [5, 3])
    """
    if structure == "matrix":
        return list(range(1, len(places) + 1))
    return [place + 1 for place in places]


def curves_by_name(names: list[list[int]], values: list[list[float]]) -> dict[int, list[float]]:
    """Return one curve per name from records of named values, NaN where a record lacks the name.

    >>> curves_by_name([[1, 2], [2, 3]], [[5.0, 4.0], [6.0, 4.5]])
    {1: [5.0, nan], 2: [4.0, 6.0], 3: [nan, 4.5]}
    """
    rows = [dict(zip(*pair, strict=True)) for pair in zip(names, values, strict=True)]
    return {
        name: [row.get(name, float("nan")) for row in rows]
        for name in sorted({name for row in names for name in row})
    }
