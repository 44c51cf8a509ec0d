"""Synthetic problems, and what no method can beat on them.

rho = observed / (r (m + n - r)): entries per degree of freedom of a matrix of rank r. Every line
has at least r entries, as in the literature; a line with fewer is not determined by anything.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Draw:
    """A truth (m, n), what is known of it (m, n) with NaN elsewhere, and its rank if low."""

    truth: Floats
    known: Floats
    rank: int | None = None

    @property
    def hidden(self) -> Flags:
        return np.isnan(self.known)

    def error(self, completed: Floats) -> float:
        """Return ||completed - truth||_F / ||truth||_F over all entries."""
        return float(np.linalg.norm(completed - self.truth) / np.linalg.norm(self.truth))

    def hidden_error(self, completed: Floats) -> float:
        """Return the root mean square of completed - truth over the hidden entries."""
        return float(np.sqrt(np.mean((completed - self.truth)[self.hidden] ** 2)))


def low_rank(
    m: int, n: int, rank: int, rng: np.random.Generator, condition: float | None = None
) -> Floats:
    """Return a truth of mean square 1: a product of Gaussians, or of this condition number."""
    if condition is None:
        truth = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
    else:
        left, right = (np.linalg.qr(rng.normal(size=(size, rank)))[0] for size in (m, n))
        truth = (left * np.geomspace(condition, 1, rank)) @ right.T
    return truth / np.sqrt(np.mean(truth**2))


def decaying(m: int, n: int, power: float, rng: np.random.Generator) -> Floats:
    """Return a truth of full rank and mean square 1 whose k-th singular value is ~ k^-power."""
    k = min(m, n)
    left, right = (np.linalg.qr(rng.normal(size=(size, k)))[0] for size in (m, n))
    truth = (left * np.arange(1.0, k + 1) ** -power) @ right.T
    return truth / np.sqrt(np.mean(truth**2))


def degrees_of_freedom(m: int, n: int, rank: int) -> int:
    return rank * (m + n - rank)


def draw_mask(
    m: int, n: int, count: int, least: int, rng: np.random.Generator, power: float = 0.0
) -> Flags:
    """Choose ``count`` entries, at least ``least`` in every line.

    Lines are seen with probability ~ k^-power, in a random order of the lines: 0 is uniform.
    """
    rows, columns = (rng.permutation(np.arange(1.0, size + 1) ** -power) for size in (m, n))
    # Efraimidis and Spirakis 2006: weighted sampling without replacement
    keys = np.log(rng.random((m, n))) / (rows[:, None] * columns)
    mask = np.zeros((m, n), dtype=bool)
    mask.flat[np.argsort(-keys, axis=None)[:count]] = True
    return fill_lines(mask, least, rng)


def fill_lines(mask: Flags, least: int, rng: np.random.Generator) -> Flags:
    """Move entries from well observed lines to those with fewer than ``least``."""
    mask = mask.copy()
    if mask.sum() < least * max(mask.shape):
        raise ValueError(
            f"count: expected at least {least * max(mask.shape)} entries, {least} a line, but got "
            f"{mask.sum()}; observe more"
        )
    for _ in range(10 * mask.size):
        rows, columns = mask.sum(1), mask.sum(0)
        if min(rows.min(), columns.min()) >= least:
            return mask
        if rows.min() < least:
            i = int(rows.argmin())
            j = int(rng.choice(np.flatnonzero(~mask[i])))
        else:
            j = int(columns.argmin())
            i = int(rng.choice(np.flatnonzero(~mask[:, j])))
        mask[i, j] = True
        spare = mask & (mask.sum(1) > least)[:, None] & (mask.sum(0) > least)
        spare[i, j] = False
        if not spare.any():
            spare = mask & (mask.sum(1) > least)[:, None]
            spare[i, j] = False
        mask.flat[rng.choice(np.flatnonzero(spare))] = False
    raise RuntimeError("mask: found none with enough entries in every line; observe more")


def make_draw(
    seed: int,
    *,
    m: int,
    n: int,
    rank: int | None,
    rho: float | None = None,
    share: float | None = None,
    noise: float = 0.0,
    condition: float | None = None,
    decay: float | None = None,
    power: float = 0.0,
) -> Draw:
    """Draw a truth of the rank (or with singular values k^-decay) and its noisy observations.

    ``rho`` or ``share`` says how many entries are observed, ``power`` how unevenly.
    """
    rng = np.random.default_rng(seed)
    if decay is not None:
        truth = decaying(m, n, decay, rng)
    else:
        assert rank is not None
        truth = low_rank(m, n, rank, rng, condition)
    if rho is not None and rank is not None:
        count = round(rho * degrees_of_freedom(m, n, rank))
    else:
        assert share is not None
        count = round(share * m * n)
    mask = draw_mask(m, n, count, rank or 1, rng, power)
    noisy = truth + noise * rng.normal(size=truth.shape)
    return Draw(truth, np.where(mask, noisy, np.nan), rank)


def oracle(draw: Draw, *, offsets: bool = False) -> Floats:
    """Return the answer of least squares over the tangent space at the truth.

    With ``offsets`` over the sum of it and the matrices 1 b^T: of a table whose columns may be
    moved. Nobody else knows that space, but a prior on the factors helps, so close to rho = 1 it
    can be beaten.
    """
    assert draw.rank is not None
    (m, n), r = draw.truth.shape, draw.rank
    u, _, vh = np.linalg.svd(draw.truth, full_matrices=False)
    u, v = u[:, :r], vh[:r].T
    if offsets:
        u = np.column_stack([u, np.full(m, m**-0.5)])
    k = u.shape[1]
    rows, columns = np.nonzero(~draw.hidden)
    jacobian = np.zeros((len(rows), m * r + n * k))
    entry = np.arange(len(rows))[:, None]
    jacobian[entry, rows[:, None] * r + np.arange(r)] = v[columns]
    jacobian[entry, m * r + columns[:, None] * k + np.arange(k)] = u[rows]
    noise = (draw.known - draw.truth)[rows, columns]
    step = np.linalg.lstsq(jacobian, noise, rcond=1e-10)[0]
    a, b = step[: m * r].reshape(m, r), step[m * r :].reshape(n, k)
    return draw.truth + a @ v.T + u @ b.T


def is_determined(draw: Draw) -> bool:
    """Say whether no other matrix of the rank near the truth has the same entries.

    Changes dU V^T + U dV^T that vanish on the entries: of each row, dU is projected out.
    """
    assert draw.rank is not None
    (_, n), r = draw.truth.shape, draw.rank
    u, _, vh = np.linalg.svd(draw.truth, full_matrices=False)
    rows = []
    for left, seen in zip(u[:, :r], ~draw.hidden, strict=True):
        columns = np.flatnonzero(seen)
        others = np.linalg.qr(vh[:r, columns].T, mode="complete")[0][:, r:].T
        block = np.zeros((len(others), n, r))
        block[:, columns] = others[:, :, None] * left
        rows.append(block.reshape(-1, n * r))
    jacobian = np.concatenate(rows)
    sizes = np.linalg.eigvalsh(jacobian.T @ jacobian)[::-1]
    return bool(sizes[n * r - r * r - 1] > 1e-12 * sizes[0])


def sparse_low_rank(
    m: int, n: int, rank: int, count: int, noise: float, seed: int
) -> dict[str, Any]:
    """Draw a matrix by its factors, and ``count`` distinct entries of it: nothing of size m n.

    Returns left (m, r), right (n, r) of mean square product 1, rows, columns, values (count,).
    """
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(m, rank)), rng.normal(size=(n, rank)) / rank**0.5
    places = np.empty(0, dtype=np.int64)
    while len(places) < count:
        places = np.unique(np.append(places, rng.integers(0, m * n, size=count)))
    places = np.sort(rng.permutation(places)[:count])
    rows, columns = np.divmod(places, n)
    values = np.empty(len(places))
    for start in range(0, len(places), 100_000):  # the gathered factors are large
        part = slice(start, start + 100_000)
        values[part] = np.einsum("ij,ij->i", left[rows[part]], right[columns[part]])
    values += noise * rng.normal(size=len(values))
    return {"left": left, "right": right, "rows": rows, "columns": columns, "values": values}
