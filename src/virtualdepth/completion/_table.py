"""Complete a table whose columns have units of their own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Prior
from virtualdepth.completion._choice import Method
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._exact import Exact
from virtualdepth.completion._recipe import (
    ATTEMPTS,
    GOAL,
    Finding,
    Recipe,
    chosen_solution,
    column_scales,
    exact_solution,
    find,
    is_settled,
    means_solution,
    path_offsets,
)
from virtualdepth.completion._solution import Solution, bayes_solution, plain_solution_of
from virtualdepth.completion._units import (
    Units,
    additive_units,
    centred_units,
    offset_share,
    scaled_units,
)
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]

# Columns whose means are more than this share of their mean squares are centred first.
OFFSET = 0.9
# Offsets that are none are this many times their own variance at most, on average.
TRACE = 2.0
# An offset beyond this share hides the table from a fit without one.
TOO_FAR = 0.99


class Completed(NamedTuple):
    """A table offset + left right^T, in the units of its columns.

    Attributes:
        units: what was subtracted and divided by.
        solution: the table in these units.
        interrupted: whether Ctrl-C ended it.
    """

    units: Units
    solution: Solution
    interrupted: bool

    @property
    def right(self) -> Array:
        """The right factor in the units of the columns, (n, k)."""
        return np.asarray(self.solution.right * self.units.scale[:, None])

    @property
    def right_covariance(self) -> Array | None:
        """Covariances of its rows, (n, k, k), or None."""
        spread = self.solution.right_covariance
        return None if spread is None else spread * self.units.scale[:, None, None] ** 2

    @property
    def noise(self) -> Array:
        """The variance of an entry about left right^T, (n,)."""
        return np.asarray(self.solution.noise * self.units.scale**2)

    @property
    def error(self) -> Array:
        """The further variance of an entry, of methods without a posterior, (n,)."""
        return np.asarray(self.solution.error * self.units.scale**2)

    def prior(self) -> Prior:
        """What is known of a row of the left factor before its entries."""
        left, spread = self.solution.left, self.solution.left_covariance
        mean = left.mean(0)
        centred = left if self.solution.exact else left - mean  # exact rows may lie anywhere
        covariance = centred.T @ centred / len(left)
        return Prior(mean, covariance if spread is None else covariance + spread.mean(0))


def complete_table(
    entries: Entries,
    *,
    precision: float = 2.0**-53,
    seed: int = 0,
    others: Mapping[str, Method] | None = None,
    watch: Watch = unwatched,
) -> Completed:
    """Complete a table with at least one entry in every column.

    Args:
        entries: in the units of their columns.
        precision: relative rounding of their values.
        seed: of all that is random.
        others: further methods for the choice by held-out entries.
        watch: who looks on.

    Returns:
        The completed table. Columns are divided by their root mean squares; or by their standard
        deviations, once offsets were subtracted. What fits exactly decides, else whether there is a
        trace of offsets. Where they are not sure, offsets are fitted again beside a matrix of low
        rank. Where methods are compared, columns are divided by the scales that Bayes finds, too.
    """
    order, decided, centred = _units_in_order(entries, precision)
    begun: list[tuple[Units, Recipe]] = []
    found: list[Finding | None] = []
    try:
        for units in order:
            z = units.standardise(entries)
            if not z.count:  # nothing but offsets
                return Completed(units, _constant(z), False)
            recipe = _recipe(z, units, seed, dict(others or {}), watch)
            begun.append((units, recipe))
            thorough = units is decided or len(begun) == 1
            exact, finding = find(recipe, len(ATTEMPTS) if thorough else 2)
            # with noise the units must not depend on what was tried first
            solution = _sure_solution(recipe, exact, finding if units is decided else None)
            if solution is not None:
                return Completed(units, solution, False)
            found.append(finding)
            if units is decided and not recipe.is_small:
                break
        number = next(at for at, units in enumerate(order) if units is decided)
        units, recipe = begun[number]
        finding = found[number]
        if decided is centred:  # offsets of an additive fit are too far off where entries are few
            units = centred = units.moved(path_offsets(recipe))
            recipe = replace(recipe, entries=units.standardise(entries))
            begun.append((units, recipe))
            exact, finding = find(recipe)
            solution = _sure_solution(recipe, exact, finding)
            if solution is not None:
                return Completed(units, solution, False)
        scale = column_scales(recipe, finding)
        begun.append((units._replace(scale=units.scale * scale), recipe.rescaled(scale)))
        units, recipe = begun[-1]
        finding = None if finding is None else finding.rescaled(scale)
        chosen = Completed(units, chosen_solution(recipe, finding), False)
        return _means(entries, centred, chosen) if chosen.solution.method == "means" else chosen
    except KeyboardInterrupt:
        for units, recipe in reversed(begun):
            if recipe.latest is not None:
                solution = plain_solution_of(
                    recipe.entries, "interrupted", recipe.latest, recipe.history
                )._replace(error=np.nan)  # nobody knows it
                return Completed(units, solution, True)
        raise


def _sure_solution(recipe: Recipe, exact: Exact | None, finding: Finding | None) -> Solution | None:
    """Return a solution that needs no comparison."""
    if exact is not None:
        return exact_solution(recipe, exact)
    if finding is not None and is_settled(recipe, finding):
        return bayes_solution(recipe.entries, finding.posterior, {}, recipe.history)
    return None


def _units_in_order(entries: Entries, precision: float) -> tuple[list[Units], Units, Units]:
    """Return the units to try, those that noise is fitted in, and those with offsets."""
    scaled = scaled_units(entries, precision)
    centred, trace = additive_units(entries, centred_units(entries, precision))
    share = offset_share(entries, centred)
    if trace < TRACE:  # an offset of which there is no trace would only add noise
        return [scaled], scaled, centred
    if share < OFFSET:
        return [scaled, centred], centred, centred
    return [centred, scaled][: 1 + (share < TOO_FAR)], centred, centred


def _means(entries: Entries, centred: Units, chosen: Completed) -> Completed:
    """Return the offsets of the columns: in units without an offset, nothing would be zero."""
    recipe = _recipe(centred.standardise(entries), centred, 0, {}, unwatched)
    recipe.history = chosen.solution.history
    return Completed(centred, means_solution(recipe, chosen.solution.errors), False)


def _recipe(z: Entries, units: Units, seed: int, others: dict[str, Method], watch: Watch) -> Recipe:
    return Recipe(z, max(GOAL, 8 * units.rounding), seed, others, watch)


def _constant(entries: Entries) -> Solution:
    """Return the solution of a table whose columns are constant."""
    m, n = entries.shape
    nothing = np.zeros((m, 0)), np.zeros((n, 0))
    return Solution(
        *nothing, None, None, np.zeros(n), 0.0, 0, True, True, "constant columns", {}, {}
    )
