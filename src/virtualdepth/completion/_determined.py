r"""What the entries determine: degrees of freedom, the core of a table, and local uniqueness."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._blocks import add_ridge, balanced, inverses, multiply, squares
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._two_sided import Reduced, conjugate_gradients

Array = NDArray[Any]

# The error of a random direction, in units of its size, at which it counts as recovered.
RECOVERED = 1e-4


def freedom(rows: int, columns: int, rank: int) -> int:
    """Return the dimension of the matrices of a rank, r (m + n - r)."""
    return rank * (rows + columns - rank)


class Core(NamedTuple):
    """Lines with at least r entries in such lines; what is outside hangs on it, or on nothing.

    Attributes:
        entries: those within, in a table of the same shape.
        rows: (m,), true for the rows within.
        columns: (n,).
    """

    entries: Entries
    rows: Array
    columns: Array

    @property
    def is_whole(self) -> bool:
        """Whether nothing is outside."""
        return bool(self.rows.all() and self.columns.all())

    def freedom(self, rank: int) -> int:
        """Return the degrees of freedom of the core at a rank."""
        return freedom(int(self.rows.sum()), int(self.columns.sum()), rank)


def core(entries: Entries, rank: int) -> Core:
    """Drop lines with fewer than ``rank`` entries, until none is left to drop."""
    m, n = entries.shape
    keep = np.ones(entries.count, bool)
    rows, columns = entries.row_counts >= rank, entries.column_counts >= rank
    while True:
        remaining = rows[entries.rows] & columns[entries.columns]
        if remaining.sum() == keep.sum():
            break
        keep = remaining
        rows = np.bincount(entries.rows[keep], minlength=m) >= rank
        columns = np.bincount(entries.columns[keep], minlength=n) >= rank
    return Core(entries if keep.all() else entries.keep(keep), rows, columns)


def is_locally_unique(entries: Entries, left: Array, right: Array, seed: int = 0) -> bool:
    r"""Say whether no other matrix of the same rank near left right^T has the same entries.

    That holds if the Jacobian of :math:`(U, V) \mapsto (U V^\top)_\Omega` has no null direction
    but the gauge. A random direction z is recovered from its image S z, S the Gauss-Newton matrix,
    only if S has none: conjugate gradients find z less its part in the null space. Their error is
    known here, for z is known.
    """
    r = right.shape[1]
    if min(entries.row_counts.min(), entries.column_counts.min()) < r:
        return False
    # bases alone matter, so that a small singular value is no null direction
    u, v = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
    grams = entries.row_grams(squares(v))
    if np.linalg.eigvalsh(grams)[:, 0].min() < 1e-9 * np.trace(grams.mean(0)) / r:
        return False

    def project(b: Array) -> Array:
        return np.asarray(b - v @ (v.T @ b))

    # data may come from a generator of the same seed, and V be those very numbers
    z = project(np.random.default_rng((seed, 8191)).normal(size=v.shape))
    aim = RECOVERED * np.sqrt(np.mean(z**2))
    system = Reduced(entries, u, v, 0.0)
    found, _ = conjugate_gradients(
        system,
        system.apply(z),
        np.zeros_like(z),
        tol=1e-14,
        most=5000,
        project=project,
        done=lambda b: bool(np.abs(b - z).max() < aim),
    )
    return bool(np.abs(found - z).max() < aim)


def extend(
    entries: Entries, inside: Core, left: Array, right: Array
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return the factors on all lines, and covariances of their rows; None if all is determined.

    A line outside the core gets the entries that it has, and for the rest the mean of the core's
    lines. Its prior has their second moment, so that it may lie anywhere in their span.
    """
    if inside.is_whole:
        return left, right, None, None
    left, right = _balanced_inside(inside, left, right)
    k = left.shape[1]
    noise = 1e-10 * float(np.mean(entries.listed**2))
    spread = np.zeros((len(left), k, k)), np.zeros((len(right), k, k))
    flipped = entries.transposed
    for _ in range(3):  # lines outside may hang on one another
        for table, out, mine, other, covariance in (
            (entries, ~inside.rows, left, right, spread[0]),
            (flipped, ~inside.columns, right, left, spread[1]),
        ):
            mean = mine[~out].mean(0)
            moment = mine[~out].T @ mine[~out] / (~out).sum()
            precision = inverses(add_ridge(moment[None].copy(), 1e-12 * np.trace(moment)))[0]
            covariance[out] = inverses(table.row_grams(squares(other))[out] / noise + precision)
            sums = table.times(table.values, other)[out] / noise + precision @ mean
            mine[out] = multiply(covariance[out], sums)
    return left, right, *spread


def _balanced_inside(inside: Core, left: Array, right: Array) -> tuple[Array, Array]:
    new_left, new_right = np.zeros_like(left), np.zeros_like(right)
    pair = balanced(left[inside.rows], right[inside.columns])
    new_left[inside.rows], new_right[inside.columns] = pair
    return new_left, new_right
