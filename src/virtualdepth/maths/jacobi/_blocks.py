"""Rotations of rows of nearly equal norm: diagonal blocks of B = A A^T, diagonalised exactly.

To first order a pair of rows rotates by its entry of B over its gap, so close pairs would have to
rotate far, and all at once. Where the norms fall, close rows are neighbours.
"""

import torch
from torch import Tensor

_BLOCK = 16


class BlockRotation:
    """The eigenvectors of blocks of 16 neighbours on the diagonal of B.

    Args:
        products: B, (..., k, k), symmetric; overwritten by what it is after the rotation.
        shifted: whether the last block ends 8 rows before the last row, and not there. One rotation
            of each kind covers all close pairs, those across the border of two blocks too.

    Raises:
        torch.linalg.LinAlgError: if B is not finite.
    """

    def __init__(self, products: Tensor, *, shifted: bool) -> None:
        size = products.shape[-1]
        first = (size + _BLOCK // 2 * shifted) % _BLOCK
        count = (size - first) // _BLOCK
        self._within = slice(first, first + count * _BLOCK)
        self._is_identity = count <= 0
        if not self._is_identity:
            blocks = self._blocks_of(products)
            # in float64: the rounding must be small beside the small rows of a block too
            squares, vectors = torch.linalg.eigh(blocks.double())
            squares, vectors = squares.flip(-1), vectors.flip(-1)
            # where there is nothing to rotate, nothing may change, not even a sign
            vectors *= 1 - 2 * vectors.diagonal(dim1=-2, dim2=-1).signbit().unsqueeze(-2).double()
            self._vectors = vectors.to(products.dtype)
            self._rotate_rows(products, self._vectors.mT)
            columns = self._rows_of(products.mT).mT
            columns.copy_(columns @ self._vectors)
            # what rounding leaves would rotate close pairs, and not by opposite angles
            blocks.copy_(squares.diag_embed())

    def then_(self, rotation: Tensor) -> Tensor:
        """Multiply this rotation by one that follows it, (..., k, k), in place."""
        if not self._is_identity:
            self._rotate_rows(rotation, self._vectors)
        return rotation

    def _rotate_rows(self, matrix: Tensor, vectors: Tensor) -> None:
        """Multiply the rows of each block by its (..., count, 16, 16) matrix, in place."""
        rows = self._rows_of(matrix)
        rows.copy_(vectors @ rows)

    def _rows_of(self, matrix: Tensor) -> Tensor:
        """View the rows of all blocks, (..., count, 16, k)."""
        rows = matrix[..., self._within, :]
        return rows.view(*rows.shape[:-2], -1, _BLOCK, rows.shape[-1])

    def _blocks_of(self, products: Tensor) -> Tensor:
        """View the blocks, (..., count, 16, 16)."""
        inner = products[..., self._within, self._within]
        count = inner.shape[-1] // _BLOCK
        inner = inner.view(*inner.shape[:-2], count, _BLOCK, count, _BLOCK)
        return inner.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
