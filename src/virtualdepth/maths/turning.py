r"""Turning singular vectors to where W has moved: one sweep of a one-sided Jacobi method.

Source: the one-sided Jacobi method of Hestenes (1958), all pairs at once as in the refinement of
Ogita and Aishima (2018).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths.probe import direction_of
from virtualdepth.maths.products import gram
from virtualdepth.maths.tracking import Basis

# Chosen on trajectories of 24 to 512 singular values, from torch's default start and from near 0,
# where the error of P_W(G) is seldom above the residual and never twice it. Where a sweep is to
# leave more than the first it turns to second order, more than the second it is not worth trying.
_SECOND_ORDER, _HOPELESS = 1e-4, 1e-3
RESIDUAL = 6e-4  # what a sweep may leave; above it W is decomposed
# how far U may be from orthogonal before it is made so again, and what a turn may add to that
# before its square is taken too
_SKEWED, _ADDED = 1e-4, 2e-5
# bounds the turn of a pair by 1 / (2 * 6): turns of close pairs are large, and add up in clusters
_BOUND = 6.0


class Turned(NamedTuple):
    """A basis after W has moved.

    Attributes:
        basis: of W.
        residual: what is left between the rows of A, and of U from orthogonal, relative to W; a
            number where numbers are read.
        resynchronised: whether U had to be made orthogonal again.
    """

    basis: Basis
    residual: float | Tensor
    resynchronised: bool


def turn(left: Tensor, rows: Tensor, depth: float) -> Turned | None:
    r"""Turn a basis to where W has moved, as far as its numbers say is needed (they are read).

    From :math:`B = A A^\top` the pair (i, j) is turned by
    :math:`F_{ij} = B_{ij} g / (g^2 + 36 B_{ij}^2)`, :math:`g = B_{jj} - B_{ii}`, which is bounded
    where the gap g is small; to second order, where that leaves too much, by three products more.

    Args:
        left: U before, (..., k, k).
        rows: U^T W of the new W, (..., k, n).
        depth: a valid depth > 1, which says how much small singular values matter.

    Returns:
        The basis after; None where the turn would be too large, or left too much.

    >>> from virtualdepth.maths.tracking import decompose
    >>> basis = decompose(torch.diag(torch.tensor([2.0, 1.0])))
    >>> weight = torch.tensor([[2.0, 0.001], [0.001, 1.0]])
    >>> found = turn(basis.left, basis.left.mT @ weight, 3.0)
    >>> (found.basis.rows @ found.basis.rows.mT)[0, 1].abs() < 1e-5  # it was .003
    tensor(True)
    """
    pairs = _Pairs.of(rows)
    leaves, adds = pairs.foreseen().tolist()
    if not leaves < _HOPELESS:
        return None
    if leaves > _SECOND_ORDER:
        rotation = pairs.second_order()
    else:
        rotation = pairs.first_order(to_second=adds > _ADDED)
    after = _rotated(left, rows, rotation)
    between, skew = _left_over(after, depth).tolist()
    skewed = skew > _SKEWED
    if skewed:
        after = _orthogonalised(after)
        between, skew = _left_over(after, depth).tolist()
    if not (between <= RESIDUAL and skew <= RESIDUAL):  # NaN is not
        return None
    return Turned(after, max(between, skew), skewed)


def turn_unseen(left: Tensor, rows: Tensor, depth: float) -> Turned:
    """Turn a basis by a fixed number of products, and read nothing: for devices.

    Args:
        left: U before.
        rows: U^T W of the new W.
        depth: a valid depth > 1.

    Returns:
        The basis after, whatever it leaves: that is to be read when the device is done.

    >>> from virtualdepth.maths.tracking import decompose
    >>> basis = decompose(torch.diag(torch.tensor([2.0, 1.0])))
    >>> bool(turn_unseen(basis.left, basis.rows + 0.01, 3.0).residual < 1e-5)
    True
    """
    after = _orthogonalised(_rotated(left, rows, _Pairs.of(rows).second_order()))
    return Turned(after, _left_over(after, depth).amax(), resynchronised=True)


class _Pairs(NamedTuple):
    """What is between the rows of A: B = A A^T over its largest diagonal entry.

    Attributes:
        off: B without its diagonal.
        squares: the diagonal.
        gaps: B_jj - B_ii.
        bounded: the square of the gaps, and what keeps the turns bounded.
        turns: F, skew.
    """

    off: Tensor
    squares: Tensor
    gaps: Tensor
    bounded: Tensor
    turns: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "_Pairs":
        off = gram(rows)
        squares = off.diagonal(dim1=-2, dim2=-1).clone()
        tiny = torch.finfo(off.dtype).tiny
        scale = 1 / squares.amax(-1, keepdim=True).clamp_min(tiny)
        squares *= scale
        off.mul_(scale.unsqueeze(-1)).diagonal(dim1=-2, dim2=-1).zero_()
        gaps = squares.unsqueeze(-2) - squares.unsqueeze(-1)
        # 0 / tiny = 0 on the diagonal, and where rows are orthogonal and of one length
        bounded = torch.addcmul(gaps.new_full((), 1e-30), gaps, gaps)
        bounded.addcmul_(off, off, value=_BOUND**2)
        return cls(off, squares, gaps, bounded, (off * gaps).div_(bounded))

    def foreseen(self) -> Tensor:
        """Estimate what turning to first order will leave, and how far it takes U from orthogonal.

        Returns:
            |F B| over |B| and |F F|, by one vector: (2,).
        """
        z = direction_of(self.squares)
        return _ratios(
            (_dot(self.turns, _dot(self.off, z)), self.squares * z),
            (_dot(self.turns, _dot(self.turns, z)), z.expand_as(self.squares)),
        )

    def first_order(self, *, to_second: bool) -> Tensor:
        turns = self.turns
        rotation = turns.sub(gram(turns), alpha=0.5) if to_second else turns.clone()
        rotation.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation

    def second_order(self) -> Tensor:
        square = gram(self.turns)  # of a skew F: -F F
        left = self.off - self.turns * self.gaps
        left -= gram(self.turns * self.squares.sqrt().unsqueeze(-2))
        sums = self.squares.unsqueeze(-2) + self.squares.unsqueeze(-1)
        left.addcmul_(square, sums, value=0.5).diagonal(dim1=-2, dim2=-1).zero_()
        more = (left * self.gaps).div_(torch.addcmul(self.bounded, left, left))
        rotation = self.turns + more
        rotation.sub_(square, alpha=0.5).diagonal(dim1=-2, dim2=-1).add_(1.0)
        return rotation


def _rotated(left: Tensor, rows: Tensor, rotation: Tensor) -> Basis:
    after = rotation.mT @ rows
    return Basis(left @ rotation, after, torch.linalg.vector_norm(after, dim=-1))


def _orthogonalised(basis: Basis) -> Basis:
    """Take one Newton-Schulz step of U to the nearest orthogonal matrix, and A along."""
    step = gram(basis.left.mT).mul_(-0.5)
    step.diagonal(dim1=-2, dim2=-1).add_(1.5)
    return _rotated(basis.left, basis.rows, step)


def _left_over(basis: Basis, depth: float) -> Tensor:
    """Estimate what is between the rows of A, relative to W, and U's distance from orthogonal.

    The cosine between two rows counts as much as K does near them: sigma_i^{1/N} sigma_j^{1/N},
    relative to the largest.

    Returns:
        By one vector each: (2,).
    """
    left, rows, lengths = basis
    z = direction_of(lengths)
    largest = lengths.amax(-1, keepdim=True)
    # rows of rounding alone have no direction; where W = 0 all are
    kept = lengths > torch.finfo(lengths.dtype).eps * largest
    weights = torch.where(kept, (lengths / largest).pow(1 / depth), 0.0)
    scales = torch.where(kept, weights / lengths, 0.0)
    size = weights.square() * z
    return _ratios(
        (scales * _dot(rows, _dot(rows.mT, scales * z)) - size, size),
        (_dot(left.mT, _dot(left, z)) - z, z.expand_as(lengths)),
    )


def _dot(matrix: Tensor, vector: Tensor) -> Tensor:
    if matrix.ndim == 2:
        return torch.mv(matrix, vector)
    return (matrix @ vector.expand(*matrix.shape[:-2], -1).unsqueeze(-1)).squeeze(-1)


def _ratios(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Compare lengths, each pair over all matrices of a batch; W = 0 leaves nothing."""
    vectors = torch.stack([each for pair in pairs for each in pair])
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    tiny = torch.finfo(lengths.dtype).tiny
    ratios: Tensor = lengths[::2] / lengths[1::2].clamp_min(tiny)
    return ratios.flatten(1).amax(-1) if ratios.ndim > 1 else ratios
