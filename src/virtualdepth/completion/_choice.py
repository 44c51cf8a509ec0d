"""The choice among methods by the entries that none of them was given."""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Posterior, variational_bayes
from virtualdepth.completion._blocks import factored_svd
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._homotopy import Path, Point, homotopy
from virtualdepth.completion._watch import Watch

Array = NDArray[Any]

# The share of the entries that is held out.
SHARE = 0.1
# A path is left when its held-out error has not fallen for this many steps.
PATIENCE = 4
# A method of this share of the weights is left alone; one below the other is left out.
ALONE, NEGLIGIBLE = 0.9, 1e-2


class Factors(NamedTuple):
    """left right^T, and the posterior if a method has one."""

    left: Array
    right: Array
    posterior: Posterior | None = None


class Trial(NamedTuple):
    """What a method did on a part of the entries.

    Attributes:
        predicted: what it says of the entries held out, as a list.
        refit: the same method on all entries.
    """

    predicted: Array
    refit: Callable[[Entries], Factors]


# From entries to fit and entries to be judged on to a trial.
Method = Callable[[Entries, Entries], Trial]


class Choice(NamedTuple):
    """A fit of all entries, by one method or by a blend of several.

    Attributes:
        name: of the method, or "blend".
        factors: the fit.
        error: mean square of the entries held out.
        errors: of each method, each column in the unit that it is judged in.
        weights: of each method that has one.
        fits: their fits.
    """

    name: str
    factors: Factors
    error: float
    errors: dict[str, float]
    weights: dict[str, float]
    fits: dict[str, Factors]


def split(entries: Entries, seed: int) -> tuple[Entries, Entries] | None:
    """Hold out entries at random, none that is the last of its line; None if there are too few."""
    random = np.random.default_rng(seed)
    held = np.zeros(entries.count, bool)
    held[random.permutation(entries.count)[: max(1, round(SHARE * entries.count))]] = True
    m, n = entries.shape
    held &= (np.bincount(entries.rows[~held], minlength=m) > 0)[entries.rows]
    held &= (np.bincount(entries.columns[~held], minlength=n) > 0)[entries.columns]
    return (entries.keep(~held), entries.keep(held)) if held.any() else None


def nothing(fit: Entries, judge: Entries) -> Trial:
    """Predict the offset."""

    def refit(entries: Entries) -> Factors:
        m, n = entries.shape
        return Factors(np.zeros((m, 1)), np.zeros((n, 1)))

    return Trial(np.zeros(judge.count), refit)


def path_method(path: Path, watch: Watch) -> Method:
    """Stop the homotopy where its held-out error is smallest."""

    def method(fit: Entries, judge: Entries) -> Trial:
        step, point = best_point(fit, judge, path, watch)

        def refit(entries: Entries) -> Factors:
            last = same_point(step, point, entries, path, watch)
            return Factors(last.u * last.sigma, last.v)

        return Trial(judge.predictions(point.u * point.sigma, point.v), refit)

    return method


def best_point(fit: Entries, judge: Entries, path: Path, watch: Watch) -> tuple[int, Point]:
    """Return the step of the path with the smallest held-out error, and its point."""
    best, at, error = None, 0, np.inf
    for step, point in enumerate(homotopy(fit, path, watch)):
        predicted = judge.predictions(point.u * point.sigma, point.v) + point.offset[judge.columns]
        now = float(np.mean((predicted - judge.listed) ** 2))
        if best is None or now < error:
            best, at, error = point, step, now
        if step - at >= PATIENCE:
            break
    if best is None:
        raise ValueError("path: expected a step at least but got none; raise decay")
    return at, best


def same_point(step: int, point: Point, entries: Entries, path: Path, watch: Watch) -> Point:
    """Return the point of a step of the path of other entries; ``point`` where that has none."""
    walked = deque(islice(homotopy(entries, path, watch), step + 1), 1)
    return walked[0] if walked else point


def bayes_method(
    start: tuple[Array, Array],
    *,
    sweeps: int,
    tol: float,
    watch: Watch,
) -> Method:
    """Variational Bayes from given factors."""

    def improve(entries: Entries, most: int) -> Posterior:
        return variational_bayes(entries, *start, sweeps=most, tol=tol, watch=watch)

    def method(fit: Entries, judge: Entries) -> Trial:
        found = improve(fit, sweeps)

        def refit(entries: Entries) -> Factors:
            posterior = improve(entries, 2 * sweeps)
            return Factors(posterior.left, posterior.right, posterior)

        return Trial(judge.predictions(found.left, found.right), refit)

    return method


def better(first: Method, second: Method) -> Method:
    """The same model from two starts: that of the smaller held-out error."""

    def method(fit: Entries, judge: Entries) -> Trial:
        trials = first(fit, judge), second(fit, judge)
        return min(trials, key=lambda trial: float(np.mean((trial.predicted - judge.listed) ** 2)))

    return method


def choose(
    entries: Entries,
    methods: Mapping[str, Method],
    parts: tuple[Entries, Entries],
    unit: Array | float,
) -> Choice:
    """Try methods on the first part, judge them on the second, refit on all entries.

    Errors of a column are judged in its ``unit``, (n,). One method is left alone if it has nearly
    all of the weight.
    """
    trials = {name: method(*parts) for name, method in methods.items()}
    judge = parts[1]
    residuals = np.stack([trial.predicted - judge.listed for trial in trials.values()])
    size = np.broadcast_to(unit, judge.shape[1:])[judge.columns]
    errors = np.mean((residuals * size) ** 2, 1)
    weights = exponential_weights(errors, judge.count)
    kept = weights > (NEGLIGIBLE if weights.max() < ALONE else 0.5)
    weights = np.where(kept, weights, 0) / weights[kept].sum()
    by_name = {name: float(weight) for name, weight in zip(trials, weights, strict=True) if weight}
    fits = {name: trials[name].refit(entries) for name in by_name}
    alone = len(fits) == 1
    return Choice(
        next(iter(fits)) if alone else "blend",
        next(iter(fits.values())) if alone else blended(fits, by_name),
        float(np.mean((weights @ residuals) ** 2)),
        dict(zip(trials, errors.tolist(), strict=True)),
        by_name,
        fits,
    )


def exponential_weights(errors: Array, count: int) -> Array:
    """Return weights ~ error^(-count/4), the square root of the likelihood of ``count`` residuals.

    Leung and Barron, "Information theory and mixing least-squares regressions", 2006.
    """
    least = max(float(errors.min()), 1e-300)
    weights = np.exp(-0.25 * count * np.log(np.maximum(errors, least) / least))
    return np.asarray(weights / weights.sum())


def blended(fits: Mapping[str, Factors], weights: Mapping[str, float]) -> Factors:
    """Return the weighted sum of fits."""
    left = np.concatenate([weight * fits[name].left for name, weight in weights.items()], 1)
    right = np.concatenate([fits[name].right for name in weights], 1)
    u, sigma, v = factored_svd(left, right)
    return Factors(u * sigma, v)
