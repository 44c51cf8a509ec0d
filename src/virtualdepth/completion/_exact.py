"""The search for a matrix of low rank that fits exactly: homotopies until the rank shows."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._determined import Core, core, freedom, is_locally_unique
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._gauss_newton import LowRank, gauss_newton
from virtualdepth.completion._homotopy import (
    Path,
    Point,
    homotopy,
    leading_of_entries,
    leading_of_sum,
)
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]

# A rank needs this many times its degrees of freedom.
MARGIN = 1.02
# A gap of this ratio is worth a Gauss-Newton, and again when it has grown by GROWTH.
GAP, GROWTH = 4.0, 2.5
# With a gap of CLEAR and ABUNDANT entries for each degree of freedom, a residual is noise.
CLEAR, ABUNDANT = 8.0, 2.0
# Another direction pays while it lowers the mean square per degree of freedom by this factor.
GAIN = 0.6


class Exact(NamedTuple):
    """A fit at the rounding level, the part of the table that it is of, whether it is unique."""

    fit: LowRank
    core: Core
    unique: bool


class Guess(NamedTuple):
    """Factors u diag(sigma), v of which the first ``rank`` stand out, and by how much."""

    left: Array
    right: Array
    rank: int
    gap: float


@dataclass
class Search:
    """What one homotopy found.

    Attributes:
        exact: an exact fit, if any.
        guess: the point of the largest gap.
        fit: the last fit of least squares.
        eps: eps of each point.
        ranks: the rank of the largest gap of each point.
        gaps: its ratio.
        residuals: relative residuals that Gauss-Newton ended at.
    """

    exact: Exact | None = None
    guess: Guess | None = None
    fit: LowRank | None = None
    eps: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)


def largest_gap(sigma: Array, entries: Entries) -> tuple[int, float]:
    """Return the rank after which the singular values fall most, and the ratio; (0, 1) for none."""
    best, rank = 1.0, 0
    for k in range(1, len(sigma)):
        if MARGIN * freedom(*entries.shape, k) >= entries.count:
            break
        if sigma[k - 1] > best * sigma[k]:
            best, rank = float(sigma[k - 1] / max(sigma[k], 1e-300)), k
    return rank, best


def search(entries: Entries, path: Path, goal: float, watch: Watch = unwatched) -> Search:
    """Walk a path; where a gap opens, try whether a matrix of that rank fits to ``goal``."""
    found = Search()
    m, n = entries.shape
    limit = 3 * np.sqrt(np.mean(entries.listed**2) * m * n)
    tried, fell, floors = 0.0, 0, dict[int, float]()
    for point in homotopy(entries, path, watch):
        if point.sigma[0] > limit:  # conjugate gradients gave up
            break
        rank, gap = _record(found, entries, point)
        peak = found.guess.gap if found.guess else 0.0
        fell = fell + 1 if gap < 0.7 * peak else 0
        if rank and gap > peak:
            found.guess = Guess(point.u * point.sigma, point.v, rank, gap)
        if rank and gap > max(GAP, GROWTH * tried):
            tried = gap
            found.exact, found.fit = fit_exactly(entries, point.v[:, :rank], goal)
            residual = found.fit.residual if found.fit else np.inf
            found.residuals.append(residual)
            if found.exact:
                return found
            same = abs(residual - floors.get(rank, np.inf)) < 1e-2 * residual
            floors[rank] = residual
            # noise: the same residual again, or many entries and a clear rank
            if (same and entries.count > 1.3 * freedom(m, n, rank)) or (
                gap > CLEAR and entries.count > ABUNDANT * freedom(m, n, rank)
            ):
                found.guess = Guess(point.u * point.sigma, point.v, rank, gap)
                break
        if (fell >= 4 and peak > 3) or _is_flat(found, point):
            break
    return pursue(entries, found, goal)


def _record(found: Search, entries: Entries, point: Point) -> tuple[int, float]:
    rank, gap = largest_gap(point.sigma, entries)
    found.eps.append(point.eps)
    found.ranks.append(rank)
    found.gaps.append(gap)
    return rank, gap


def _is_flat(found: Search, point: Point) -> bool:
    """Say whether no gap is forming."""
    recent = found.gaps[-6:]
    far = len(found.gaps) > 8 and point.eps < 0.02 * point.sigma[0]
    return far and max(recent) < 1.1 * min(recent)


def fit_exactly(entries: Entries, right: Array, goal: float) -> tuple[Exact | None, LowRank | None]:
    """Fit at the rank of ``right``; where that is exact, at the smallest rank below that still is.

    Return also the first fit, if there was one.
    """
    part = core(entries, right.shape[1])
    if not part.determines(right.shape[1]):
        return None, None
    first = fit = gauss_newton(part.entries, right[part.columns])
    if first.residual >= goal:
        return None, first
    unique = is_locally_unique(part.entries, fit.left, fit.right)
    # of more than the needed rank there are many
    while not unique and fit.right.shape[1] > 1:
        k = fit.right.shape[1]
        rotation = np.linalg.svd(np.linalg.qr(fit.left)[1], full_matrices=False)[2]
        right = part.scattered(fit.left, fit.right @ rotation[:-1].T)[1]
        smaller = core(entries, k - 1)
        lower = gauss_newton(smaller.entries, right[smaller.columns], steps=15)
        if lower.residual >= goal:
            break
        part, fit = smaller, lower
        unique = is_locally_unique(part.entries, fit.left, fit.right)
    return Exact(fit, part, unique), first


def pursue(entries: Entries, found: Search, goal: float) -> Search:
    """Gauss-Newton at rising ranks, each from the last and the leading direction of its residual.

    Small singular values of an ill-conditioned truth hide below the gap of the large ones. With
    noise it ends at once.
    """
    if found.guess is None or found.guess.gap < 2:
        return found
    rank = found.guess.rank
    part = core(entries, rank)
    if not part.determines(rank):
        return found
    inside = part.entries
    m, n = inside.shape
    fit = found.fit
    if fit is None or fit.right.shape[1] != rank:
        fit = gauss_newton(inside, found.guess.right[part.columns, :rank])
    random = np.random.default_rng(0)
    while fit.residual >= goal:
        k = fit.right.shape[1]
        if k + 1 >= n or not part.determines(k + 1, MARGIN):
            break
        rest = inside.with_values(inside.listed - inside.predictions(fit.left, fit.right))
        direction = leading_of_entries(rest, 1, random)[2]
        wider = gauss_newton(inside, np.concatenate([fit.right, direction], 1))
        left_over = wider.residual**2 / (inside.count - freedom(m, n, k + 1))
        if left_over > GAIN * fit.residual**2 / (inside.count - freedom(m, n, k)):
            break
        fit = wider
    found.residuals.append(fit.residual)
    k = fit.right.shape[1]
    if fit.residual < goal:
        right = part.scattered(fit.left, fit.right)[1]
        found.exact = fit_exactly(entries, right, goal)[0]
    elif k > rank or inside.count > ABUNDANT * freedom(m, n, k):
        # the rank that the residual asked for, and what was found there
        left, right = part.scattered(fit.left, fit.right)
        data = entries.values - entries.product(left, right)
        nothing = (np.zeros_like(left), right)
        u, sigma, v = leading_of_sum(
            entries, (left, right), nothing, data, k + max(3, k // 2), random
        )
        found.guess = Guess(u * sigma, v, k, found.guess.gap)
    return found
