"""Sweeps: rotations of a basis to where W has moved, and a measure of what they leave."""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._products import gram, matvec
from virtualdepth.maths._svd import LinAlgError
from virtualdepth.maths.jacobi._basis import Basis
from virtualdepth.maths.jacobi._fingerprint import fingerprint_direction
from virtualdepth.maths.jacobi._rotation import Rotation

# Chosen on runs of 64 to 1024 singular values, from torch's default start and from near 0, where
# the error of P_W(G) is mostly below the residual, and seldom above twice that.
MAX_RESIDUAL = 6e-4  # above it W must be decomposed
_ENOUGH = 2e-4  # below it no sweep follows
_WORTH = (1e-2, 2e-3, MAX_RESIDUAL)  # what the first, second and third sweep may leave to go on
# Size of the angles from which on blocks rotate first, from which on a second sweep will follow,
# and from which on no sweep is worth trying.
_CROWDED, _LARGE, _HOPELESS = 0.033, 0.06, 0.2
# a sweep that does not start with blocks leaves about 2.6 size^2 / sqrt(k)
_FORESEEN, _NEAR = 2.6, 8.5e-5
_SKEWED = 3e-5  # how far U may be from orthogonal before it is orthogonalised again


class Swept(NamedTuple):
    """A basis after W has moved.

    Attributes:
        basis: of W.
        residual: what is left between the rows of A, and of U from orthogonal, relative to W; a
            tensor where no number may be read.
        reorthogonalised: whether U had to be made orthogonal again.
    """

    basis: Basis
    residual: float | Tensor
    reorthogonalised: bool


def sweep(
    left: Tensor, rows: Tensor, depth: float, *, blocks_first: bool = False, shifted: bool = False
) -> Swept | None:
    """Rotate a basis to where W has moved, by as many sweeps as its numbers ask for.

    ``left`` is the U before, (..., k, k), ``rows`` U^T W of the new W, (..., k, n). The depth says
    how much small singular values matter. ``blocks_first`` rotates close pairs by themselves from
    the start; ``shifted`` says which blocks, and should change from step to step.

    Returns:
        The basis after; None where the rotation would be too large, or left too much.
    """
    try:
        found = _sweep_while_worth_it(left, rows, depth, blocks_first=blocks_first, shifted=shifted)
    except LinAlgError:  # of blocks that are not finite
        return None
    if found is None:
        return None
    basis, (between, skew) = found
    skewed = skew > _SKEWED
    if skewed:
        basis = _orthogonalised(basis)
        between, skew = _residuals(basis, depth).tolist()
    if not (between <= MAX_RESIDUAL and skew <= MAX_RESIDUAL):  # NaN is not
        return None
    return Swept(basis, max(between, skew), skewed)


def without_sweep(left: Tensor, rows: Tensor, depth: float) -> Swept:
    """Keep U as it is, and measure (and read) what that leaves, however much."""
    basis = Basis(left, rows, torch.linalg.vector_norm(rows, dim=-1))
    return Swept(basis, max(_residuals(basis, depth).tolist()), reorthogonalised=False)


def sweep_async(left: Tensor, rows: Tensor, depth: float) -> Swept:
    """Rotate a basis by a fixed number of products, and read nothing: for devices."""
    rotation = Rotation(rows)
    rotation.find_angles_async()
    after = _orthogonalised(_rotated(left, rows, rotation.second_order_matrix()))
    return Swept(after, _residuals(after, depth).amax(), reorthogonalised=True)


def _sweep_while_worth_it(
    left: Tensor, rows: Tensor, depth: float, *, blocks_first: bool, shifted: bool
) -> tuple[Basis, list[float]] | None:
    """Sweep up to three times; return the basis and its residuals, None where it is hopeless."""
    for worth in _WORTH:
        rotation = Rotation(rows)
        if blocks_first:
            rotation.rotate_blocks(shifted=shifted)
        size = rotation.find_angles()
        if not size < _HOPELESS:
            return None
        if not blocks_first and _is_crowded(size, rows.shape[-2]):
            # of two sweeps the second takes the smallest rows, which move most for their size
            shifted = shifted or size > _LARGE
            rotation.rotate_blocks(shifted=shifted)
            rotation.find_angles()
        left, rows, _ = basis = _rotated(left, rows, rotation.matrix())
        residuals: list[float] = _residuals(basis, depth).tolist()
        if residuals[0] <= _ENOUGH:
            break
        if not residuals[0] <= worth:  # NaN is not
            return None
        blocks_first, shifted = True, False
    return basis, residuals


def _is_crowded(size: float, count: int) -> bool:
    """Tell whether angles of this size, of ``count`` rows, ask for blocks first."""
    return size > _CROWDED or _FORESEEN * size**2 / count**0.5 > _NEAR


def _rotated(left: Tensor, rows: Tensor, rotation: Tensor) -> Basis:
    """Rotate a basis: U R and R^T A."""
    after = rotation.mT @ rows
    return Basis(left @ rotation, after, torch.linalg.vector_norm(after, dim=-1))


def _orthogonalised(basis: Basis) -> Basis:
    """Take one Newton-Schulz step of U to the nearest orthogonal matrix, and move A with it."""
    step = gram(basis.left.mT).mul_(-0.5)
    step.diagonal(dim1=-2, dim2=-1).add_(1.5)
    return _rotated(basis.left, basis.rows, step)


def _residuals(basis: Basis, depth: float) -> Tensor:
    """Estimate how far the rows of A, relative to W, and U are from orthogonal, (2,)."""
    # By one vector each. The cosine between two rows counts as much as K does near them:
    # sigma_i^{1/N} sigma_j^{1/N}, relative to the largest.
    left, rows, norms = basis
    z = fingerprint_direction(norms)
    largest = norms.amax(-1, keepdim=True)
    # rows of rounding alone have no direction; where W = 0 all are
    kept = norms > torch.finfo(norms.dtype).eps * largest
    weights = torch.where(kept, (norms / largest).pow(1 / depth), 0.0)
    scales = torch.where(kept, weights / norms, 0.0)
    size = weights.square() * z
    return _norm_ratios(
        (scales * matvec(rows, matvec(rows.mT, scales * z)) - size, size),
        (matvec(left.mT, matvec(left, z)) - z, z.expand_as(norms)),
    )


def _norm_ratios(*pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Divide the norms of each pair of vectors, the largest of a batch; W = 0 leaves nothing."""
    vectors = torch.stack([each for pair in pairs for each in pair])
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    tiny = torch.finfo(norms.dtype).tiny
    ratios: Tensor = norms[::2] / norms[1::2].clamp_min(tiny)
    return ratios.flatten(1).amax(-1) if ratios.ndim > 1 else ratios
