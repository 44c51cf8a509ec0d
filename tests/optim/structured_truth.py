"""The rule in blocks and with unequal layers, written again with numpy and scipy.

Nothing here calls the package: t solves F(t) = t (t + lambda)^(N-1) = sigma^2 by bisection, K is
the quotient of differences, blocks are cut by loops, and frequencies are those of the full FFT.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[Any]


def profile(t: float, depth: float, imbalance: float) -> float:
    return float(t * (t + imbalance) ** (depth - 1))


def small_square(sigma: float, depth: float, imbalance: float) -> float:
    if sigma == 0:
        return 0.0
    goal = 2 * math.log(sigma)
    ends = goal / depth, max(goal / depth, goal - (depth - 1) * math.log(imbalance or 1))

    def excess(u: float) -> float:
        return u + (depth - 1) * math.log(math.exp(u) + imbalance) - goal

    low, high = min(ends) - 60 - abs(goal), max(ends) + 60
    return math.exp(brentq(excess, low, high, xtol=1e-15, rtol=1e-15, maxiter=500))


def kernel(a: float, b: float, depth: float, imbalance: float) -> float:
    if math.isinf(depth):
        if a == b or 0 in (a, b):
            return a * b if a == b else 0.0
        return (a**2 - b**2) / (2 * math.log(a) - 2 * math.log(b))
    s, t = (small_square(x, depth, imbalance) for x in (a, b))
    if abs(a - b) > 1e-7 * max(a, b):
        return (a**2 - b**2) / (s - t)
    large = t + imbalance
    return large ** (depth - 1) + (depth - 1) * t * large ** (depth - 2) if large > 0 else 0.0


def in_block(weight: Array, grad: Array, depth: float, imbalance: float) -> Array:
    """P_W(G) of one matrix, real or complex, by a full decomposition."""
    rows, columns = weight.shape
    u, sigma, vh = np.linalg.svd(weight, full_matrices=True)
    left, right = np.zeros(rows), np.zeros(columns)
    left[: len(sigma)] = right[: len(sigma)] = np.where(sigma > 1e-14 * sigma[0], sigma, 0)
    k = np.array([[kernel(a, b, depth, imbalance) for b in right] for a in left])
    moved: Array = u @ (k * (u.conj().T @ grad @ vh.conj().T)) @ vh
    return moved


def _rows(array: Array) -> Iterator[Array]:
    for row in array.reshape(len(array), -1):
        yield row[None, :]


def _columns(array: Array) -> Iterator[Array]:
    for column in array.reshape(len(array), -1).T:
        yield column[:, None]


def _entries(array: Array) -> Iterator[Array]:
    for entry in array.flatten():
        yield np.array([[entry]])


def _frequencies(array: Array) -> Iterator[Array]:
    if array.ndim < 3:
        yield from _entries(np.fft.fft(array))
        return
    spectrum = np.fft.fftn(array, axes=range(2, array.ndim))
    yield from spectrum.reshape(*array.shape[:2], -1).transpose(2, 0, 1)


def _from_rows(blocks: list[Array], shape: tuple[int, ...]) -> Array:
    return np.concatenate(blocks).reshape(shape)


def _from_columns(blocks: list[Array], shape: tuple[int, ...]) -> Array:
    return np.concatenate(blocks, axis=1).reshape(shape)


def _from_entries(blocks: list[Array], shape: tuple[int, ...]) -> Array:
    return np.array(blocks).reshape(shape)


def _from_frequencies(blocks: list[Array], shape: tuple[int, ...]) -> Array:
    if len(shape) < 3:
        return np.fft.ifft(_from_entries(blocks, shape)).real
    spectrum = np.array(blocks).transpose(1, 2, 0).reshape(shape)
    return np.fft.ifftn(spectrum, axes=range(2, len(shape))).real


Blocks = Callable[[Array], Iterator[Array]]
Join = Callable[[list[Array], tuple[int, ...]], Array]
STRUCTURES: dict[str, tuple[Blocks, Join]] = {
    "rows": (_rows, _from_rows),
    "columns": (_columns, _from_columns),
    "diagonal": (_entries, _from_entries),
    "circulant": (_frequencies, _from_frequencies),
    "matrix": (lambda array: iter([array.reshape(len(array), -1)]), _from_rows),
}


def blocks_of(array: Array, structure: str) -> list[Array]:
    return list(STRUCTURES[structure][0](array))


def sizes_of(array: Array, structure: str) -> Array:
    """The singular values of every block."""
    return np.concatenate([np.linalg.svd(b, compute_uv=False) for b in blocks_of(array, structure)])


def preconditioned(
    weight: Array, grad: Array, depth: float, structure: str, imbalance: float
) -> Array:
    pairs = zip(blocks_of(weight, structure), blocks_of(grad, structure), strict=True)
    moved = [in_block(w, g, depth, imbalance) for w, g in pairs]
    return STRUCTURES[structure][1](moved, weight.shape)
