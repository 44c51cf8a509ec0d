r"""What the entries determine: degrees of freedom, the core of a table, and local uniqueness."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpocon, dpotrf

from virtualdepth.completion._blocks import add_ridge, balanced, inverses, multiply, squares
from virtualdepth.completion._entries import Entries, observe
from virtualdepth.completion._gauss_newton import DIRECT, gauged, reduced_matrix
from virtualdepth.completion._two_sided import Reduced, conjugate_gradients

Array = NDArray[Any]

# The error of a random direction of Gaussian numbers at which it counts as recovered.
RECOVERED = 1e-2
# Conjugate gradients beyond this residual would follow rounding into null directions.
SOLVED = 1e-11
# A matrix whose inverse condition is below this is singular to rounding.
REGULAR = 1e-13
# The same for the entries of a line.
SINGULAR = 1e-7


def freedom(rows: int, columns: int, rank: int) -> int:
    """Return the dimension of the matrices of a rank, r (m + n - r)."""
    return rank * (rows + columns - rank)


class Core(NamedTuple):
    """Lines with more than r entries in such lines, as a table of their own.

    A line of r entries or fewer constrains nothing: r of them say what it is once the rest is
    known.

    Attributes:
        entries: those within, in the table of these lines alone.
        rows: (m,), true for the rows within.
        columns: (n,).
    """

    entries: Entries
    rows: Array
    columns: Array

    def determines(self, rank: int, margin: float = 1.0) -> bool:
        """Say whether it has so many entries for each degree of freedom, and more."""
        m, n = self.entries.shape
        return min(m, n) > rank and self.entries.count > margin * freedom(m, n, rank)

    def scattered(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Return factors of all lines, zero outside."""
        whole = (
            np.zeros((len(self.rows), left.shape[1])),
            np.zeros((len(self.columns), right.shape[1])),
        )
        whole[0][self.rows], whole[1][self.columns] = left, right
        return whole


def core(entries: Entries, rank: int) -> Core:
    """Drop lines with at most ``rank`` entries, until none is left to drop."""
    m, n = entries.shape
    keep = np.ones(entries.count, bool)
    rows, columns = entries.row_counts > rank, entries.column_counts > rank
    while True:
        remaining = rows[entries.rows] & columns[entries.columns]
        if remaining.sum() == keep.sum():
            break
        keep = remaining
        rows = np.bincount(entries.rows[keep], minlength=m) > rank
        columns = np.bincount(entries.columns[keep], minlength=n) > rank
    if rows.all() and columns.all():
        return Core(entries, rows, columns)
    at_row, at_column = np.cumsum(rows) - 1, np.cumsum(columns) - 1
    inside = observe(
        at_row[entries.rows[keep]],
        at_column[entries.columns[keep]],
        entries.listed[keep],
        (int(rows.sum()), int(columns.sum())),
        ordered=True,
    )
    return Core(inside, rows, columns)


def is_locally_unique(entries: Entries, left: Array, right: Array, seed: int = 0) -> bool:
    r"""Say whether no other matrix of the same rank near left right^T has the same entries.

    That holds if the Jacobian of :math:`(U, V) \mapsto (U V^\top)_\Omega` has no null direction
    but the gauge. Where the Gauss-Newton matrix S is formed, its condition tells. Else a random
    direction z is recovered from its image S z only if S has none: conjugate gradients find z less
    its part in the null space. Their error is known here, for z is known.
    """
    r = right.shape[1]
    if min(entries.row_counts.min(), entries.column_counts.min()) < r:
        return False
    # bases alone matter, so that a small singular value is no null direction
    u, v = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
    grams = entries.row_grams(squares(v))
    if np.linalg.eigvalsh(grams)[:, 0].min() < 1e-9 * np.trace(grams.mean(0)) / r:
        return False
    if v.size <= DIRECT:
        matrix = reduced_matrix(entries, u, v)
        return is_definite(gauged(matrix, v, np.trace(matrix) / len(matrix)))

    def project(b: Array) -> Array:
        return np.asarray(b - v @ (v.T @ b))

    # data may come from a generator of the same seed, and V be those very numbers
    z = project(np.random.default_rng((seed, 8191)).normal(size=v.shape))
    system = Reduced(entries, u, v, 0.0)
    found, _ = conjugate_gradients(
        system,
        system.apply(z),
        np.zeros_like(z),
        tol=SOLVED,
        most=5000,
        project=project,
        done=lambda b: bool(np.linalg.norm(b - z) < RECOVERED),
    )
    return bool(np.linalg.norm(found - z) < RECOVERED)


def is_definite(matrix: Array) -> bool:
    """Say whether a matrix is positive definite beyond its rounding."""
    norm = np.abs(matrix).sum(0).max()
    factor, failed = dpotrf(matrix.T, lower=1)
    return not failed and bool(dpocon(factor, norm, uplo="L")[0] > REGULAR)


def extend(
    entries: Entries, inside: Core, left: Array, right: Array
) -> tuple[Array, Array, Array | None, Array | None]:
    """Return the factors on all lines, and covariances of their rows; None if all is determined.

    A line outside the core with r entries in known lines is known too. Any other gets the entries
    that it has, and for the rest the mean of the known lines. Its prior has their second moment,
    so that it may lie anywhere in their span.
    """
    left, right = inside.scattered(*balanced(left, right))
    k = left.shape[1]
    flipped = entries.transposed
    rows, columns = inside.rows.copy(), inside.columns.copy()
    sides = (entries, rows, columns, left, right), (flipped, columns, rows, right, left)
    while any([_solve_lines(*side) for side in sides]):
        pass
    if rows.all() and columns.all():
        return left, right, None, None
    spread = np.zeros((len(left), k, k)), np.zeros((len(right), k, k))
    noise = 1e-10 * float(np.mean(entries.listed**2))
    # both, before the lines outside count
    priors = [mine[known].T @ mine[known] / known.sum() for _, known, _, mine, _ in sides]
    means = [mine[known].mean(0) for _, known, _, mine, _ in sides]
    for _ in range(3):  # lines outside may hang on one another
        for at, (table, known, _, mine, other) in enumerate(sides):
            # an entry says less where the other line is not known either
            weight = 1 / (noise + np.einsum("nij,ij->n", spread[1 - at], priors[at]))
            moment = priors[at]
            precision = inverses(add_ridge(moment[None].copy(), 1e-12 * np.trace(moment)))[0]
            seen = table.row_grams(squares(other) * weight[:, None, None])[~known]
            spread[at][~known] = inverses(seen + precision)
            sums = table.times(table.values, other * weight[:, None])[~known]
            mine[~known] = multiply(spread[at][~known], sums + precision @ means[at])
    return left, right, *spread


def _solve_lines(
    table: Entries, known: Array, other_known: Array, mine: Array, other: Array
) -> bool:
    """Solve for rows with enough entries in known columns, in place; say whether any had."""
    usable = other_known[table.columns]
    counts = np.bincount(table.rows[usable], minlength=len(known))
    ready = ~known & (counts >= other.shape[1])
    if not ready.any():
        return False
    part = table.keep(usable & ready[table.rows])
    line, place = np.cumsum(ready) - 1, np.arange(part.count)
    at = line[part.rows], place - np.concatenate([[0], np.cumsum(part.row_counts)])[part.rows]
    basis, size = np.linalg.qr(other * other_known[:, None])
    design = np.zeros((ready.sum(), counts[ready].max(), other.shape[1]))
    design[at] = basis[part.columns]
    data = np.zeros(design.shape[:2])
    data[at] = part.listed
    u, sigma, vh = np.linalg.svd(design, full_matrices=False)
    regular = sigma[:, -1] > SINGULAR * sigma[:, 0]
    sums = multiply(u[regular].swapaxes(1, 2), data[regular]) / sigma[regular]
    ready[ready] = regular
    mine[ready] = np.linalg.solve(size, multiply(vh[regular].swapaxes(1, 2), sums).T).T
    known |= ready
    return bool(ready.any())
