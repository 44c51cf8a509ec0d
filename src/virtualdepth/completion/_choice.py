"""The choice among methods by the entries that none of them was given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Posterior, variational_bayes
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._homotopy import Path, Point, homotopy
from virtualdepth.completion._watch import Watch

Array = NDArray[Any]

# The share of the entries that is held out.
SHARE = 0.1
# A path is left when its held-out error has not fallen for this many steps.
PATIENCE = 4


class Factors(NamedTuple):
    """left right^T, and the posterior if a method has one."""

    left: Array
    right: Array
    posterior: Posterior | None = None


class Trial(NamedTuple):
    """What a method did on a part of the entries.

    Attributes:
        error: mean square of the entries held out.
        refit: the same method on all entries.
    """

    error: float
    refit: Callable[[Entries], Factors]


# From entries to fit and entries to be judged on to a trial.
Method = Callable[[Entries, Entries], Trial]


class Choice(NamedTuple):
    """The method of smallest error, its fit of all entries, and the errors of all methods."""

    name: str
    factors: Factors
    errors: dict[str, float]


def split(entries: Entries, seed: int) -> tuple[Entries, Entries] | None:
    """Hold out entries at random, none that is the last of its line; None if there are too few."""
    random = np.random.default_rng(seed)
    held = np.zeros(entries.count, bool)
    held[random.permutation(entries.count)[: max(1, round(SHARE * entries.count))]] = True
    m, n = entries.shape
    held &= (np.bincount(entries.rows[~held], minlength=m) > 0)[entries.rows]
    held &= (np.bincount(entries.columns[~held], minlength=n) > 0)[entries.columns]
    return (entries.keep(~held), entries.keep(held)) if held.any() else None


def mean_square_error(judge: Entries, left: Array, right: Array) -> float:
    """Return the mean square of the entries less left right^T."""
    return float(np.mean((judge.predictions(left, right) - judge.listed) ** 2))


def nothing(fit: Entries, judge: Entries) -> Trial:
    """Predict the offset."""

    def refit(entries: Entries) -> Factors:
        m, n = entries.shape
        return Factors(np.zeros((m, 1)), np.zeros((n, 1)))

    return Trial(float(np.mean(judge.listed**2)), refit)


def path_method(path: Path, watch: Watch) -> Method:
    """Stop the homotopy where its held-out error is smallest."""

    def method(fit: Entries, judge: Entries) -> Trial:
        step, point, error = best_point(fit, judge, path, watch)

        def refit(entries: Entries) -> Factors:
            last = point
            for at, found in enumerate(homotopy(entries, path, watch)):
                last = found
                if at == step:
                    break
            return Factors(last.u * last.sigma, last.v)

        return Trial(error, refit)

    return method


def best_point(fit: Entries, judge: Entries, path: Path, watch: Watch) -> tuple[int, Point, float]:
    """Return the step of the path with the smallest held-out error, its point, and the error."""
    best, at, error = None, 0, np.inf
    for step, point in enumerate(homotopy(fit, path, watch)):
        now = mean_square_error(judge, point.u * point.sigma, point.v)
        if best is None or now < error:
            best, at, error = point, step, now
        if step - at >= PATIENCE:
            break
    if best is None:
        raise ValueError("path: expected a step at least but got none; raise decay")
    return at, best, error


def bayes_method(
    start: tuple[Array, Array],
    *,
    sweeps: int,
    tol: float,
    profiles: Sequence[Array],
    watch: Watch,
) -> Method:
    """Variational Bayes from given factors."""

    def improve(entries: Entries, most: int) -> Posterior:
        return variational_bayes(
            entries, *start, sweeps=most, tol=tol, profiles=profiles, watch=watch
        )

    def method(fit: Entries, judge: Entries) -> Trial:
        found = improve(fit, sweeps)

        def refit(entries: Entries) -> Factors:
            posterior = improve(entries, 2 * sweeps)
            return Factors(posterior.left, posterior.right, posterior)

        return Trial(mean_square_error(judge, found.left, found.right), refit)

    return method


def choose(
    entries: Entries, methods: Mapping[str, Method], parts: tuple[Entries, Entries]
) -> Choice:
    """Try methods on the first part, judge them on the second, refit the best on all entries."""
    trials = {name: method(*parts) for name, method in methods.items()}
    errors = {name: trial.error for name, trial in trials.items()}
    best = min(errors, key=errors.__getitem__)
    return Choice(best, trials[best].refit(entries), errors)
