r"""Variational Bayes of a factor model: noise, rank and the variance of every entry.

:math:`y_{ij} = u_i \cdot v_j + e_{ij}` with :math:`u_i \sim N(\mu_u, C_u)`, :math:`v_j \sim
N(\mu_v, C_v)`, :math:`e_{ij} \sim N(0, s_j)`. The posterior is taken as a product over rows and
columns. The moments of the priors and the noise maximise the bound. A needless direction shrinks to
zero.
Raiko, Ilin and Karhunen (2007); with means, as in Salakhutdinov and Mnih (2008).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._blocks import add_ridge, balanced, inverses, multiply, squares
from virtualdepth.completion._determined import freedom
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._noise import SHRINKAGE, Spread, shrunk, spread_of_noises
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]


class Prior(NamedTuple):
    """What is known of a row of a factor before its entries: mean (k,) and covariance (k, k)."""

    mean: Array
    covariance: Array

    @property
    def precision(self) -> Array:
        """The inverse covariance, where that has one."""
        ridge = 1e-9 * np.trace(self.covariance) + 1e-300
        return np.asarray(inverses(add_ridge(self.covariance[None].copy(), ridge))[0])


class Posterior(NamedTuple):
    """Means and covariances of the rows of both factors, the noise, and the prior of a new row.

    Attributes:
        left: (m, k).
        left_covariance: (m, k, k).
        right: (n, k).
        right_covariance: (n, k, k).
        noise: variance of an entry of each column, (n,).
        prior: of the rows of ``left``.
        noises: the mean noise after each sweep.
    """

    left: Array
    left_covariance: Array
    right: Array
    right_covariance: Array
    noise: Array
    prior: Prior
    noises: list[float]


def variational_bayes(
    entries: Entries,
    left: Array,
    right: Array,
    *,
    sweeps: int = 100,
    tol: float = 1e-4,
    profiles: Sequence[Array] = (),
    watch: Watch = unwatched,
) -> Posterior:
    """Improve on factors until a sweep changes the product by less than ``tol`` of it.

    ``profiles``: noises of the columns, (n,), of which one may be right but for a factor.
    """
    (m, k), n = left.shape, len(right)
    u, v = balanced(left, right)
    floor = 1e-18 * float(np.mean(entries.listed**2)) + 1e-300
    rest = float(np.sum((entries.values - entries.product(u, v)) ** 2))
    first = rest / max(entries.count - freedom(m, n, k), 0.1 * entries.count)
    noise = np.full(n, max(first, floor))
    v_covariance = np.zeros((n, k, k))
    left_prior = _second_moment(u)
    right_prior = _second_moment(v)
    rows_seen, columns_seen = entries.row_counts > 0, entries.column_counts > 0
    column_squares = entries.transposed_times(entries.values**2, np.ones((m, 1)))[:, 0]
    noises: list[float] = []
    spread, is_settled = Spread(np.ones(n), SHRINKAGE), False
    for sweep in range(sweeps):
        last = u, v
        weight = 1 / noise
        u, u_covariance = _posterior_of_rows(entries, v, v_covariance, weight, left_prior)
        left_prior = _moments(u[rows_seen], u_covariance[rows_seen])
        # the columns: their noise is a factor
        grams = entries.column_grams(squares(u) + u_covariance)
        sums = entries.transposed_times(entries.values, u)
        precision = right_prior.precision
        v_covariance = inverses(weight[:, None, None] * grams + precision)
        v = multiply(v_covariance, weight[:, None] * sums + precision @ right_prior.mean)
        right_prior = _moments(v[columns_seen], v_covariance[columns_seen])
        # the sum of E (y - u v)^2 from those sums: no pass over the entries
        square = column_squares - 2 * np.sum(sums * v, 1)
        square = square + np.sum(grams * (squares(v) + v_covariance), (1, 2))
        noise = np.maximum(shrunk(square, entries.column_counts, spread), floor)
        noises.append(float(noise @ entries.column_counts) / entries.count)
        watch("Bayes", u, v)
        change = _change(last, (u, v)) if sweep else np.inf
        if not is_settled and (change < 10 * tol or 2 * sweep > sweeps):
            # not before: residuals under a wrong profile speak for it
            spread = spread_of_noises(square, entries.column_counts, profiles)
            is_settled = True
        elif change < tol:
            break
    return Posterior(u, u_covariance, v, v_covariance, noise, left_prior, noises)


def _posterior_of_rows(
    entries: Entries, v: Array, v_covariance: Array, weight: Array, prior: Prior
) -> tuple[Array, Array]:
    precision = prior.precision
    second = (squares(v) + v_covariance) * weight[:, None, None]
    covariance = inverses(entries.row_grams(second) + precision)
    sums = entries.times(entries.values, v * weight[:, None]) + precision @ prior.mean
    return multiply(covariance, sums), covariance


def _second_moment(factor: Array) -> Prior:
    return Prior(np.zeros(factor.shape[1]), factor.T @ factor / len(factor))


def _moments(factor: Array, covariance: Array) -> Prior:
    mean = factor.mean(0)
    centred = factor - mean
    return Prior(mean, centred.T @ centred / len(factor) + covariance.mean(0))


def _change(last: tuple[Array, Array], new: tuple[Array, Array]) -> float:
    """Return the relative change of the product, from the factors."""

    def inner(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
        return float(np.sum((a[0].T @ b[0]) * (a[1].T @ b[1])))

    size = inner(new, new)
    return float(np.sqrt(max(size + inner(last, last) - 2 * inner(last, new), 0.0) / size))


def entry_variances(
    left: Array, left_covariance: Array, right: Array, right_covariance: Array
) -> Array:
    """Return the variance of u_i . v_i of each pair of rows, without noise."""
    cross = np.einsum("ia,iab,ib->i", right, left_covariance, right)
    cross += np.einsum("ia,iab,ib->i", left, right_covariance, left)
    return np.asarray(cross + np.einsum("iab,iab->i", left_covariance, right_covariance))
