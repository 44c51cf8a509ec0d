r"""The rotation that makes the rows of a matrix A more orthogonal, all pairs of rows at once.

With :math:`B = A A^\top`, relative to its largest diagonal entry, the pair (i, j) rotates by the
angle :math:`F_{ij} = B_{ij} g / (g^2 + 36 B_{ij}^2)`, :math:`g = B_{jj} - B_{ii}`, which is bounded
where the gap g is small.

Source: the one-sided Jacobi method of Hestenes (1958), all pairs at once as in the refinement of
Ogita and Aishima (2018).
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._products import gram
from virtualdepth.maths.jacobi._blocks import BlockRotation

# bounds an angle by 1 / (2 * 6): angles of close pairs are large, and add up in clusters
_BOUND = 6.0
# Mean square norm of the rows of F above which the rotation has a term in F F^T, and above which it
# has one in the square too. Below, the terms left out keep it orthogonal well enough.
_SECOND, _FOURTH = 5e-6, 1e-3


class Rotation:
    """One Jacobi rotation of the rows of A, (..., k, n): first its angles, then its matrix."""

    def __init__(self, rows: Tensor) -> None:
        products = gram(rows)
        largest = products.diagonal(dim1=-2, dim2=-1).amax(-1)
        products /= largest.clamp_min_(torch.finfo(products.dtype).tiny)[..., None, None]
        self._products = products
        self._blocks: BlockRotation | None = None

    def rotate_blocks(self, *, shifted: bool) -> None:
        """Rotate close pairs first, exactly, by a BlockRotation (LinAlgError if not finite)."""
        self._blocks = BlockRotation(self._products, shifted=shifted)

    def find_angles(self) -> float:
        """Compute F and read the root mean square norm of its rows, the largest of a batch."""
        self.find_angles_async()
        largest = torch.linalg.vector_norm(self._angles, dim=(-2, -1)).amax()
        size = float(largest) / math.sqrt(self._angles.shape[-1])
        self._square = size**2
        return size

    def find_angles_async(self) -> None:
        """Compute F, after the rotation of blocks if there was one, and read nothing."""
        self._squares = self._products.diagonal(dim1=-2, dim2=-1).clone()
        gaps = self._gaps()
        bounded = self._bounded(gaps)
        self._angles = gaps.mul_(self._products).div_(bounded)

    def matrix(self) -> Tensor:
        r"""Compute the rotation R, for :math:`A \leftarrow R^\top A`, :math:`U \leftarrow U R`.

        Returns:
            :math:`I + F - F F^\top / 2 - (F F^\top)^2 / 8`, as far as F is large enough to need it,
            (..., k, k): orthogonal up to the sixth power of F; after the rotation of blocks.
        """
        rotation = self._angles
        if self._square > _SECOND:
            square = gram(rotation)
            fourth = gram(square) if self._square > _FOURTH else None
            rotation = torch.sub(rotation, square, alpha=0.5, out=square)
            if fourth is not None:
                rotation.sub_(fourth, alpha=0.125)
        rotation.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation if self._blocks is None else self._blocks.then_(rotation)

    def second_order_matrix(self) -> Tensor:
        """Compute a rotation that leaves less, by two more products; slightly less orthogonal."""
        square, gaps = gram(self._angles), self._gaps()  # of a skew F: -F F
        left = self._products - self._angles * gaps
        left -= gram(self._angles * self._squares.sqrt().unsqueeze(-2))
        sums = self._squares.unsqueeze(-2) + self._squares.unsqueeze(-1)
        left.addcmul_(square, sums, value=0.5).diagonal(dim1=-2, dim2=-1).zero_()
        more = (left * gaps).div_(self._bounded(gaps).addcmul_(left, left))
        rotation = self._angles + more
        rotation.sub_(square, alpha=0.5).diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation

    def _gaps(self) -> Tensor:
        """Compute g = B_jj - B_ii, (..., k, k)."""
        return self._squares.unsqueeze(-2) - self._squares.unsqueeze(-1)

    def _bounded(self, gaps: Tensor) -> Tensor:
        """Compute g^2 + 36 B_ij^2, (..., k, k), plus a floor."""
        # the floor keeps rows of rounding alone from rotating
        floor = gaps.new_full((), (8 * torch.finfo(gaps.dtype).eps) ** 4)
        bounded = torch.addcmul(floor, gaps, gaps)
        return bounded.addcmul_(self._products, self._products, value=_BOUND**2)
