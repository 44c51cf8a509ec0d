"""Turning singular vectors to where W has moved, and measuring what that left."""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._products import gram, matvec
from virtualdepth.maths._svd import LinAlgError
from virtualdepth.maths.jacobi._basis import Basis
from virtualdepth.maths.jacobi._fingerprint import direction_of
from virtualdepth.maths.jacobi._rotation import Pairs

# Chosen on runs of 64 to 1024 singular values, from torch's default start and from near 0, where
# the error of P_W(G) is mostly below what is left, and seldom above twice that.
MAX_RESIDUAL = 6e-4  # what may be left; above it W is decomposed
_ENOUGH = 2e-4  # below it no sweep follows
_WORTH = (1e-2, 2e-3, MAX_RESIDUAL)  # what each sweep may leave: for the next one, and at last
# the size of turns from which on close pairs come first, from which on a second sweep will follow,
# and from which on none is worth trying
_CROWDED, _LARGE, _HOPELESS = 0.033, 0.06, 0.2
# a sweep that does not start with close pairs leaves some 2.6 size^2 / sqrt(k)
_FORESEEN, _NEAR = 2.6, 8.5e-5
_SKEWED = 3e-5  # how far U may be from orthogonal before it is made so again


class Swept(NamedTuple):
    """A basis after W has moved.

    Attributes:
        basis: of W.
        residual: what is left between the rows of A, and of U from orthogonal, relative to W; a
            number where numbers are read.
        reorthogonalised: whether U had to be made orthogonal again.
    """

    basis: Basis
    residual: float | Tensor
    reorthogonalised: bool


def sweep(
    left: Tensor, rows: Tensor, depth: float, *, blocks_first: bool = False, shifted: bool = False
) -> Swept | None:
    r"""Turn a basis to where W has moved, as far as its numbers say is needed (they are read).

    Where many pairs are close, or a sweep left too much, they are turned by themselves first.

    Args:
        left: U before, (..., k, k).
        rows: U^T W of the new W, (..., k, n).
        depth: a valid depth > 1, which says how much small singular values matter.
        blocks_first: whether to turn close pairs by themselves from the start.
        shifted: which of them; to be changed from step to step.

    Returns:
        The basis after; None where the turn would be too large, or left too much.

    >>> from virtualdepth.maths.jacobi._basis import exact_basis
    >>> basis = exact_basis(torch.diag(torch.tensor([2.0, 1.0])))
    >>> weight = torch.tensor([[2.0, 0.001], [0.001, 1.0]])
    >>> found = sweep(basis.left, basis.left.mT @ weight, 3.0)
    >>> (found.basis.rows @ found.basis.rows.mT)[0, 1].abs() < 1e-5  # it was .003
    tensor(True)
    """
    try:
        found = _swept(left, rows, depth, blocks_first=blocks_first, shifted=shifted)
    except LinAlgError:  # of blocks that are not finite
        return None
    if found is None:
        return None
    basis, (between, skew) = found
    skewed = skew > _SKEWED
    if skewed:
        basis = _orthogonalised(basis)
        between, skew = _left_over(basis, depth).tolist()
    if not (between <= MAX_RESIDUAL and skew <= MAX_RESIDUAL):  # NaN is not
        return None
    return Swept(basis, max(between, skew), skewed)


def without_sweep(left: Tensor, rows: Tensor, depth: float) -> Swept:
    """Keep a basis as it is, and measure what that leaves (it is read).

    Args:
        left: U before.
        rows: U^T W of the new W.
        depth: a valid depth > 1.

    Returns:
        The basis, whatever it leaves.

    >>> from virtualdepth.maths.jacobi._basis import exact_basis
    >>> basis = exact_basis(torch.diag(torch.tensor([2.0, 1.0])))
    >>> without_sweep(basis.left, basis.rows, 3.0).residual < 1e-6
    True
    """
    basis = Basis(left, rows, torch.linalg.vector_norm(rows, dim=-1))
    return Swept(basis, max(_left_over(basis, depth).tolist()), reorthogonalised=False)


def sweep_async(left: Tensor, rows: Tensor, depth: float) -> Swept:
    """Turn a basis by a fixed number of products, and read nothing: for devices.

    Args:
        left: U before.
        rows: U^T W of the new W.
        depth: a valid depth > 1.

    Returns:
        The basis after, whatever it leaves: that is to be read when the device is done.

    >>> from virtualdepth.maths.jacobi._basis import exact_basis
    >>> basis = exact_basis(torch.diag(torch.tensor([2.0, 1.0])))
    >>> bool(sweep_async(basis.left, basis.rows + 0.01, 3.0).residual < 1e-5)
    True
    """
    pairs = Pairs(rows)
    pairs.turn_unseen()
    after = _orthogonalised(_rotated(left, rows, pairs.second_order()))
    return Swept(after, _left_over(after, depth).amax(), reorthogonalised=True)


def _swept(
    left: Tensor, rows: Tensor, depth: float, *, blocks_first: bool, shifted: bool
) -> tuple[Basis, list[float]] | None:
    """Sweep as often as it is worth it.

    Returns:
        The basis, and what is left; None where a sweep was not worth trying.
    """
    for worth in _WORTH:
        pairs = Pairs(rows)
        if blocks_first:
            pairs.turn_near(odd=shifted)
        size = pairs.turn()
        if not size < _HOPELESS:
            return None
        if not blocks_first and _is_crowded(size, rows.shape[-2]):
            # of two sweeps the second takes the smallest rows, which move most for their size
            shifted = shifted or size > _LARGE
            pairs.turn_near(odd=shifted)
            pairs.turn()
        left, rows, _ = basis = _rotated(left, rows, pairs.rotation())
        left_over: list[float] = _left_over(basis, depth).tolist()
        if left_over[0] <= _ENOUGH:
            break
        if not left_over[0] <= worth:  # NaN is not
            return None
        blocks_first, shifted = True, False
    return basis, left_over


def _is_crowded(size: float, count: int) -> bool:
    return size > _CROWDED or _FORESEEN * size**2 / count**0.5 > _NEAR


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
        (scales * matvec(rows, matvec(rows.mT, scales * z)) - size, size),
        (matvec(left.mT, matvec(left, z)) - z, z.expand_as(lengths)),
    )


def _ratios(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Compare lengths, each pair over all matrices of a batch; W = 0 leaves nothing."""
    vectors = torch.stack([each for pair in pairs for each in pair])
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    tiny = torch.finfo(lengths.dtype).tiny
    ratios: Tensor = lengths[::2] / lengths[1::2].clamp_min(tiny)
    return ratios.flatten(1).amax(-1) if ratios.ndim > 1 else ratios
