"""Many small matrices at once, one for each row or column of a table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def squares(vectors: Array) -> Array:
    """Return x x^T of each row x, (m, k) to (m, k, k)."""
    return vectors[:, :, None] * vectors[:, None]


def add_ridge(blocks: Array, ridge: float | Array) -> Array:
    """Add to the diagonals, in place; return the blocks."""
    at = np.arange(blocks.shape[-1])
    blocks[..., at, at] += ridge
    return blocks


def inverses(blocks: Array) -> Array:
    """Invert positive definite matrices; one that rounding made singular, plus a rounding of it."""
    try:
        return np.linalg.inv(blocks)
    except np.linalg.LinAlgError:
        size = np.trace(blocks, axis1=-2, axis2=-1)[..., None] / blocks.shape[-1]
        return np.linalg.inv(add_ridge(blocks.copy(), 1e-12 * size + 1e-200))


def multiply(blocks: Array, vectors: Array) -> Array:
    """Return each block times its vector, (m, k, k) and (m, k) to (m, k)."""
    return np.asarray((blocks @ vectors[:, :, None])[:, :, 0])


def balanced(left: Array, right: Array) -> tuple[Array, Array]:
    """Return factors of the same product with (rows' mean square) diagonal and alike on both sides.

    The directions are those of the singular vectors, the largest first.
    """
    (m, k), n = left.shape, len(right)
    u, sigma, v = factored_svd(left, right)
    size = len(sigma)
    new_left, new_right = np.zeros((m, k)), np.zeros((n, k))
    new_left[:, :size] = u * (sigma**0.5 * (m / n) ** 0.25)
    new_right[:, :size] = v * (sigma**0.5 * (n / m) ** 0.25)
    return new_left, new_right


def factored_svd(left: Array, right: Array) -> tuple[Array, Array, Array]:
    """Return U, sigma, V of left right^T without forming it."""
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right)
    u, sigma, vh = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, sigma, q_right @ vh.T


def effective_size(left: Array, right: Array, least: float = 1e-2) -> int:
    """Return how many singular values of left right^T exceed ``least`` of the largest."""
    sigma = factored_svd(left, right)[1]
    return int((sigma > least * sigma[:1].sum()).sum())
