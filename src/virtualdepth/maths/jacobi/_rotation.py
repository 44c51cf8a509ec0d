"""How far each pair of rows of a matrix is to be turned to be orthogonal, all pairs at once.

Source: the one-sided Jacobi method of Hestenes (1958), all pairs at once as in the refinement of
Ogita and Aishima (2018).
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._products import gram
from virtualdepth.maths.jacobi._blocks import NearTurn

# bounds the turn of a pair by 1 / (2 * 6): turns of close pairs are large, and add up in clusters
_BOUND = 6.0
# by how much a rotation may miss being orthogonal, as a mean square over all rows: above the first
# F F^T is taken into account, above the second its square too
_SECOND, _FOURTH = 5e-6, 1e-3


class Pairs:
    r"""What is between the rows of A, and how they are to be turned.

    From :math:`B = A A^\top`, relative to its largest diagonal entry, the pair (i, j) is turned by
    :math:`F_{ij} = B_{ij} g / (g^2 + 36 B_{ij}^2)`, :math:`g = B_{jj} - B_{ii}`, which is bounded
    where the gap g is small.

    Args:
        rows: A, (..., k, n).

    >>> pairs = Pairs(torch.tensor([[2.0, 0.002], [0.001, 1.0]]))
    >>> pairs.turn() < 0.01
    True
    >>> pairs.rotation()
    tensor([[ 1.0000, -0.0013],
            [ 0.0013,  1.0000]])
    """

    def __init__(self, rows: Tensor) -> None:
        between = gram(rows)
        largest = between.diagonal(dim1=-2, dim2=-1).amax(-1)
        between /= largest.clamp_min_(torch.finfo(between.dtype).tiny)[..., None, None]
        self._between = between
        self._near: NearTurn | None = None

    def turn_near(self, *, odd: bool) -> None:
        """Turn close pairs first, exactly.

        Args:
            odd: which of them, see :class:`virtualdepth.maths.jacobi._blocks.NearTurn`.

        Raises:
            torch.linalg.LinAlgError: if A is not finite, or its squares are not.
        """
        self._near = NearTurn(self._between, odd=odd)

    def turn(self) -> float:
        """Compute F, after the turn of close pairs if there was one.

        Returns:
            The root of the mean square of the length of its rows, the largest of a batch.
        """
        self.turn_unseen()
        largest = torch.linalg.vector_norm(self._turns, dim=(-2, -1)).amax()
        size = float(largest) / math.sqrt(self._turns.shape[-1])
        self._square = size**2
        return size

    def turn_unseen(self) -> None:
        """Compute F, and read nothing."""
        self._squares = self._between.diagonal(dim1=-2, dim2=-1).clone()
        gaps = self._gaps()
        bounded = self._bounded(gaps)
        self._turns = gaps.mul_(self._between).div_(bounded)

    def rotation(self) -> Tensor:
        r"""Compute what A is to be multiplied by, transposed, and U as it is.

        Returns:
            :math:`I + F - F F^\top / 2 - (F F^\top)^2 / 8`, as far as need be, which is orthogonal
            up to the sixth power of F; times the turn of close pairs.
        """
        rotation = self._turns
        if self._square > _SECOND:
            square = gram(rotation)
            fourth = gram(square) if self._square > _FOURTH else None
            rotation = torch.sub(rotation, square, alpha=0.5, out=square)
            if fourth is not None:
                rotation.sub_(fourth, alpha=0.125)
        rotation.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation if self._near is None else self._near.before(rotation)

    def second_order(self) -> Tensor:
        """Compute a rotation that leaves less, by two products more.

        Returns:
            As :meth:`rotation`, a little less orthogonal.
        """
        square, gaps = gram(self._turns), self._gaps()  # of a skew F: -F F
        left = self._between - self._turns * gaps
        left -= gram(self._turns * self._squares.sqrt().unsqueeze(-2))
        sums = self._squares.unsqueeze(-2) + self._squares.unsqueeze(-1)
        left.addcmul_(square, sums, value=0.5).diagonal(dim1=-2, dim2=-1).zero_()
        more = (left * gaps).div_(self._bounded(gaps).addcmul_(left, left))
        rotation = self._turns + more
        rotation.sub_(square, alpha=0.5).diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation

    def _gaps(self) -> Tensor:
        return self._squares.unsqueeze(-2) - self._squares.unsqueeze(-1)

    def _bounded(self, gaps: Tensor) -> Tensor:
        """Take the square of the gaps, and add what keeps the turns bounded."""
        # rows of rounding alone turn by nothing
        floor = gaps.new_full((), (8 * torch.finfo(gaps.dtype).eps) ** 4)
        bounded = torch.addcmul(floor, gaps, gaps)
        return bounded.addcmul_(self._between, self._between, value=_BOUND**2)
