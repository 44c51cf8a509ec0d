r"""Turning rows of nearly one length: small blocks on the diagonal of B = A A^T, solved exactly.

To first order a pair turns by its entry of B over its gap, so that close pairs would have to turn
by much, and all at once. Where rows lie in falling order, close ones are neighbours.
"""

import torch
from torch import Tensor

_BLOCK = 16


class NearTurn:
    """The eigenvectors of blocks of 16 neighbours each.

    Args:
        between: B, (..., k, k), symmetric; changed to what it is after the turn.
        odd: whether the last block ends 8 before the last row, and not there: a turn of each kind
            takes all close pairs, those on both sides of a border too.

    Raises:
        torch.linalg.LinAlgError: if B is not finite.

    >>> between = torch.eye(16) + torch.ones(16, 16)
    >>> turn = NearTurn(between, odd=False)
    >>> between[0, 0], between[1:, 0].any()
    (tensor(17.), tensor(False))
    """

    def __init__(self, between: Tensor, *, odd: bool) -> None:
        size = between.shape[-1]
        first = (size + _BLOCK // 2 * odd) % _BLOCK
        count = (size - first) // _BLOCK
        self._within = slice(first, first + count * _BLOCK)
        self._turns = count > 0
        if self._turns:
            blocks = self._blocks_of(between)
            # in float64: rounding of a turn must be small beside the small rows of a block too
            squares, vectors = torch.linalg.eigh(blocks.double())
            squares, vectors = squares.flip(-1), vectors.flip(-1)
            # where nothing is to be turned, nothing is to change, the signs neither
            vectors *= 1 - 2 * vectors.diagonal(dim1=-2, dim2=-1).signbit().unsqueeze(-2).double()
            self._vectors = vectors.to(between.dtype)
            self._turn_rows(between, self._vectors.mT)
            columns = self._rows_of(between.mT).mT
            columns.copy_(columns @ self._vectors)
            # what rounding leaves would turn close pairs, and not by opposite angles
            blocks.copy_(squares.diag_embed())

    def before(self, rotation: Tensor) -> Tensor:
        """Multiply the turn by a rotation that follows it.

        Args:
            rotation: (..., k, k); changed.

        Returns:
            The same tensor, now for both.
        """
        if self._turns:
            self._turn_rows(rotation, self._vectors)
        return rotation

    def _turn_rows(self, matrix: Tensor, vectors: Tensor) -> None:
        rows = self._rows_of(matrix)
        rows.copy_(vectors @ rows)

    def _rows_of(self, matrix: Tensor) -> Tensor:
        """View the rows of all blocks, (..., count, 16, k)."""
        rows = matrix[..., self._within, :]
        return rows.view(*rows.shape[:-2], -1, _BLOCK, rows.shape[-1])

    def _blocks_of(self, between: Tensor) -> Tensor:
        """View the blocks, (..., count, 16, 16)."""
        inner = between[..., self._within, self._within]
        count = inner.shape[-1] // _BLOCK
        inner = inner.view(*inner.shape[:-2], count, _BLOCK, count, _BLOCK)
        return inner.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
