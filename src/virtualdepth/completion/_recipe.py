"""Complete entries in units of their own: exactly, else by Bayes, else as held-out entries say."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Posterior, variational_bayes
from virtualdepth.completion._blocks import effective_size
from virtualdepth.completion._choice import (
    Choice,
    Factors,
    Method,
    bayes_method,
    best_point,
    better,
    blended,
    choose,
    nothing,
    path_method,
    same_point,
    split,
)
from virtualdepth.completion._determined import extend, freedom
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._exact import MARGIN, Exact, Search, search
from virtualdepth.completion._homotopy import Path
from virtualdepth.completion._solution import Solution, bayes_solution, plain_solution_of
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]

# Decay of eps, width and share of the entries in the start, of one homotopy after the other.
ATTEMPTS = (
    (0.6, 1, 1),
    (0.75, 1, 1),
    (0.5, 1.7, 0.8),
    (0.68, 1.7, 0.8),
    (0.8, 1, 0.7),
    (0.55, 1.7, 0.7),
    (0.7, 1, 0.6),
    (0.6, 1.7, 0.5),
)
# Entries times width: below it a problem is small, and further starts cost little.
SMALL = 2e5
# The residual of an exact fit, in units of the data, where those have no rounding of their own.
GOAL = 1e-11
# From this share of a blend on, Bayes says what its errors are.
KNOWING = 0.3
# Memory of the widest arrays of the homotopy, in bytes.
BUDGET = 2**29


@dataclass
class Finding:
    """The best noisy fit of the homotopies so far."""

    score: float
    posterior: Posterior
    rank: int
    noise: float
    is_sure: bool
    start: tuple[Array, Array]

    def rescaled(self, scale: Array) -> "Finding":
        """Return it with the start in these units of the columns."""
        return replace(self, start=(self.start[0], self.start[1] / scale[:, None]))


@dataclass
class Recipe:
    """One table on its way to a solution.

    Attributes:
        entries: of mean square about 1.
        goal: relative residual of an exact fit.
        seed: of all that is random.
        others: further methods for the choice by held-out entries.
        watch: who looks on.
        history: what happened, by name.
        unit: what errors of each column are judged in, (n,).
    """

    entries: Entries
    goal: float
    seed: int
    others: Mapping[str, Method] = field(default_factory=dict)
    watch: Watch = unwatched
    history: dict[str, list[float]] = field(default_factory=dict)
    unit: Array | float = 1.0
    latest: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        m, n = self.entries.shape
        self.width = default_width(m, n, self.entries.count)
        self.is_small = self.entries.count * self.width <= SMALL
        # the sparse side is eliminated: rows, the longer one
        self.flipped = m < n
        self.tall = self.entries.transposed if self.flipped else self.entries

    def rescaled(self, scale: Array) -> "Recipe":
        """Return it with columns in these units, (n,), and errors judged as before."""
        entries = self.entries.with_values(self.entries.listed / scale[self.entries.columns])
        return replace(self, entries=entries, unit=self.unit * scale)

    def path(self, number: int = 0, depth: float = np.inf) -> Path:
        """Return the path of an attempt."""
        decay, factor, share = ATTEMPTS[number]
        width = int(min(self.tall.shape[1], max(2, factor * self.width)))
        steps = 500 if self.is_small else 100
        return Path(width, decay, share, self.seed + number, depth, 1e-6, steps)

    def upright(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Return factors of the tall table as those of the table, and the other way round."""
        return (right, left) if self.flipped else (left, right)

    def see(self, what: str, left: Array, right: Array) -> None:
        """Remember the last factors, and pass them on."""
        self.latest = left, right
        self.watch(what, left, right)

    def see_tall(self, what: str, left: Array, right: Array) -> None:
        """Remember the last factors of the tall table."""
        self.see(what, *self.upright(left, right))

    def note(self, name: str, numbers: list[float]) -> None:
        """Write down what happened."""
        self.history.setdefault(name, []).extend(numbers)


def default_width(m: int, n: int, count: int) -> int:
    """Return a few times the rank that the entries can determine, within a budget of memory."""
    widest = max(2, int(4 * count / (m + n)))
    affordable = max(4, (BUDGET / 8 / (m + n) / 4) ** 0.5)
    return int(min(m, n, 40, widest, affordable))


def is_settled(recipe: Recipe, finding: Finding | None) -> bool:
    """Say whether the Bayes estimate of a finding needs no comparison."""
    square = float(np.mean(recipe.entries.listed**2))
    return finding is not None and finding.is_sure and finding.noise < 0.3 * square


def find(recipe: Recipe, attempts: int = len(ATTEMPTS)) -> tuple[Exact | None, Finding | None]:
    """Walk homotopies until one is exact, or two find the same noise, or the entries abound."""
    best: Finding | None = None
    for number in range(attempts if recipe.is_small else 1):
        found = search(recipe.tall, recipe.path(number), recipe.goal, recipe.see_tall)
        _note_search(recipe, found)
        if found.exact is not None:
            return found.exact, best
        if found.guess is None or found.guess.gap < 3:
            continue
        new = estimate(recipe, found)
        agree = (
            best is not None
            and new.rank == best.rank
            and abs(new.noise - best.noise) < 1e-2 * best.noise
        )
        if best is None or new.score < best.score:
            best = new
        m, n = recipe.entries.shape
        if agree or recipe.entries.count > 2 * freedom(m, n, new.rank):
            break
    return None, best


def _note_search(recipe: Recipe, found: Search) -> None:
    recipe.note("eps", found.eps)
    recipe.note("rank", [float(rank) for rank in found.ranks])
    recipe.note("gap", found.gaps)
    recipe.note("residual", found.residuals)


def estimate(recipe: Recipe, found: Search) -> Finding:
    """Bayes from a few directions more than stand out."""
    guess = found.guess
    if guess is None:
        raise ValueError("found: expected a guess but got none")
    entries = recipe.entries
    m, n = entries.shape
    ranks = [k for k in range(1, min(m, n) + 1) if MARGIN * freedom(m, n, k) < entries.count] or [1]
    wide = guess.rank + max(3, guess.rank // 2)
    k = min(max(ranks[:200]), guess.left.shape[1], wide)
    start = recipe.upright(guess.left[:, :k], guess.right[:, :k])
    posterior = variational_bayes(entries, *start, sweeps=200, watch=recipe.see)
    recipe.note("noise", posterior.noises)
    noise = posterior.noises[-1]
    rank = effective_size(posterior.left, posterior.right)
    score = entries.count * np.log(noise) + 2 * freedom(m, n, rank)
    is_sure = rank == guess.rank and guess.gap > 8
    return Finding(score, posterior, rank, noise, is_sure, start)


def exact_solution(recipe: Recipe, exact: Exact) -> Solution:
    """Put an exact fit on all lines."""
    fit, inside, unique = exact
    left, right, left_spread, right_spread = extend(recipe.tall, inside, fit.left, fit.right)
    unique = unique and left_spread is None
    left, right = recipe.upright(left, right)
    if recipe.flipped:
        left_spread, right_spread = right_spread, left_spread
    return Solution(
        left=left,
        right=right,
        left_covariance=left_spread,
        right_covariance=right_spread,
        noise=np.zeros(recipe.entries.shape[1]),
        error=0.0,
        rank=left.shape[1],
        exact=True,
        unique=unique,
        method="exact",
        errors={},
        history=recipe.history,
    )


def chosen_solution(recipe: Recipe, finding: Finding | None) -> Solution:
    """Compare paths, Bayes from the best of them, Bayes from the gap, and the others' methods."""
    entries = recipe.entries
    parts = split(entries, recipe.seed)
    if parts is None:
        return means_solution(recipe, {})
    methods: dict[str, Method] = {"means": nothing}
    path = recipe.path()._replace(least=1e-4)
    for depth in (np.inf, 4.0):
        walk = path_method(path._replace(depth=depth), recipe.see_tall)
        methods[f"path of depth {depth:g}"] = upright_method(recipe, walk)
    tall_parts = [part.transposed if recipe.flipped else part for part in parts]
    _, point = best_point(tall_parts[0], tall_parts[1], path, recipe.see_tall)
    start = recipe.upright(point.u * point.sigma, point.v)
    methods["bayes"] = bayes_method(start, sweeps=60, tol=1e-3, watch=recipe.see)
    if finding is not None:
        # until it has forgotten what was held out
        of_gap = bayes_method(finding.start, sweeps=200, tol=1e-5, watch=recipe.see)
        methods["bayes"] = better(methods["bayes"], of_gap)
    choice = choose(entries, {**methods, **recipe.others}, parts, recipe.unit)
    if choice.weights.get("bayes", 0.0) < KNOWING:
        return plain_solution(recipe, choice)
    return bayes_blend(recipe, choice)


def bayes_blend(recipe: Recipe, choice: Choice) -> Solution:
    """Return the Bayes estimate, with its variances, plus what the blend differs from it by."""
    bayes = choice.fits["bayes"].posterior
    if bayes is None:
        raise ValueError("choice: expected a posterior of bayes but got none")
    recipe.note("noise", bayes.noises)
    found = bayes_solution(recipe.entries, bayes, choice.errors, recipe.history)
    found = found._replace(method=choice.name, weights=choice.weights)
    if len(choice.fits) == 1:
        return found
    rest = blended(choice.fits, {**choice.weights, "bayes": choice.weights["bayes"] - 1})
    left = np.concatenate([found.left, rest.left], 1)
    right = np.concatenate([found.right, rest.right], 1)
    more = (0, rest.left.shape[1])
    rows, columns = (
        None if spread is None else np.pad(spread, ((0, 0), more, more))
        for spread in (found.left_covariance, found.right_covariance)
    )
    return found._replace(
        left=left,
        right=right,
        left_covariance=rows,
        right_covariance=columns,
        rank=effective_size(left, right),
    )


def column_scales(recipe: Recipe, finding: Finding | None) -> Array:
    """Return scales of the columns in which their noises are alike, as far as Bayes tells."""
    if finding is not None:
        return finding.posterior.scale
    parts = split(recipe.tall, recipe.seed)
    if parts is None:
        return np.ones(recipe.entries.shape[1])
    path = recipe.path()._replace(least=1e-4)
    _, point = best_point(*parts, path, recipe.see_tall)
    start = recipe.upright(point.u * point.sigma, point.v)
    return variational_bayes(recipe.entries, *start, sweeps=60, tol=1e-3, watch=recipe.see).scale


def path_offsets(recipe: Recipe) -> Array:
    """Return the offsets of columns beside a matrix of low rank, where held-out entries say."""
    parts = split(recipe.entries, recipe.seed)
    path = recipe.path()._replace(least=1e-4, offset=True)
    if parts is None:
        return np.zeros(recipe.entries.shape[1])
    step, point = best_point(*parts, path, recipe.see)
    return same_point(step, point, recipe.entries, path, recipe.see).offset


def upright_method(recipe: Recipe, method: Method) -> Method:
    """Turn a method of tall tables into one of the table."""
    if not recipe.flipped:
        return method

    def flipped(fit: Entries, judge: Entries) -> Any:
        trial = method(fit.transposed, judge.transposed)

        def refit(entries: Entries) -> Factors:
            found = trial.refit(entries.transposed)
            return Factors(found.right, found.left)

        return trial._replace(refit=refit)

    return flipped


def means_solution(recipe: Recipe, errors: dict[str, float]) -> Solution:
    """Return the table of nothing but the offsets of its columns."""
    entries = recipe.entries
    error = float(np.mean(entries.listed**2))
    factors = nothing(entries, entries).refit(entries)
    return plain_solution(recipe, Choice("means", factors, error, errors, {}, {}))


def plain_solution(recipe: Recipe, choice: Choice) -> Solution:
    """Return factors without a posterior: what is held out tells their error."""
    found = plain_solution_of(
        recipe.entries,
        choice.name,
        (choice.factors.left, choice.factors.right),
        recipe.history,
    )
    error = choice.error - float(np.mean(found.noise))
    return found._replace(error=max(error, 0.0), errors=choice.errors, weights=choice.weights)
