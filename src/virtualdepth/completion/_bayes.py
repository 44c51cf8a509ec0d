r"""Variational Bayes of a factor model: noise, rank and the variance of every entry.

:math:`y_{ij} = u_i \cdot v_j + e_{ij}` with :math:`u_i \sim N(\mu_u, C_u)`, :math:`v_j \sim
N(\mu_v, C_v)`, :math:`e_{ij} \sim N(0, s_j)`. The posterior is taken as a product over rows and
columns. The moments of the priors and the noise maximise the bound. A needless direction shrinks to
zero.
Raiko, Ilin and Karhunen (2007); with means, as in Salakhutdinov and Mnih (2008).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._blocks import add_ridge, balanced, inverses, multiply, squares
from virtualdepth.completion._determined import freedom
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._noise import degrees_of_noises, shrunk
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]


# Squares below this part of what they are a difference of are its rounding.
ROUNDING = 1e-10
# A direction whose mean square is less than this part of the noise is needless.
NEEDLESS = 1e-3


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
    """Means and covariances of the rows of both factors, the noise, and the priors of rows.

    Attributes:
        left: (m, k).
        left_covariance: (m, k, k).
        right: (n, k).
        right_covariance: (n, k, k).
        noise: variance of an entry of each column, (n,).
        prior: of a row of ``left``.
        right_prior: of a row of ``right`` over its scale.
        scale: of the columns, (n,): v_j / scale_j and the noise over its square are alike.
        noises: the mean noise after each sweep, in units of the scale.
    """

    left: Array
    left_covariance: Array
    right: Array
    right_covariance: Array
    noise: Array
    prior: Prior
    right_prior: Prior
    scale: Array
    noises: list[float]


def variational_bayes(
    entries: Entries,
    left: Array,
    right: Array,
    *,
    sweeps: int = 100,
    tol: float = 1e-4,
    watch: Watch = unwatched,
) -> Posterior:
    """Improve on factors until a sweep changes the product by less than ``tol`` of it.

    First the scales of the columns, with the same noise in units of them; then how far the noises
    differ from that.
    """
    chain = _Chain(entries, left, right, watch)
    half = max(sweeps // 2, 1)
    chain.run(half, 10 * tol)
    chain.degrees = degrees_of_noises(chain.square, entries.column_counts)
    chain.is_scaling = False
    chain.drop()
    chain.run(max(sweeps - half, 1), tol)
    chain.drop()
    return chain.posterior()


class _Chain:
    """Factors, priors, scales and noise on their way to a posterior.

    Attributes:
        scale: of the columns, (n,); what follows is in units of it.
        v: rows of the right factor, (n, k).
        noise: of each column, (n,).
        square: the sum of E (y - u v)^2 over each column, (n,).
        degrees: how many entries the common noise counts as.
        is_scaling: whether a sweep updates the scales.
    """

    square: Array

    def __init__(self, entries: Entries, left: Array, right: Array, watch: Watch) -> None:
        (m, k), n = left.shape, len(right)
        self.entries, self.watch = entries, watch
        self.scale, self.is_scaling, self.degrees = np.ones(n), True, np.inf
        self.u, self.v = balanced(left, right)
        self.floor = 1e-18 * float(np.mean(entries.listed**2)) + 1e-300
        rest = float(np.sum((entries.values - entries.product(self.u, self.v)) ** 2))
        first = rest / max(entries.count - freedom(m, n, k), 0.1 * entries.count)
        self.noise = np.full(n, max(first, self.floor))
        self.v_covariance = np.zeros((n, k, k))
        self.left_prior, self.right_prior = _second_moment(self.u), _second_moment(self.v)
        self.rows_seen, self.columns_seen = entries.row_counts > 0, entries.column_counts > 0
        self.column_squares = entries.transposed_times(entries.values**2, np.ones((m, 1)))[:, 0]
        self.noises: list[float] = []

    def run(self, sweeps: int, tol: float) -> None:
        """Sweep so many times, or until the product changes by less than ``tol`` of it."""
        for sweep in range(sweeps):
            last = self.u, self.v
            self.sweep()
            self.watch("Bayes", self.u, self.v * self.scale[:, None])
            if sweep and _change(last, (self.u, self.v)) < tol:
                break

    def sweep(self) -> None:
        """Update rows, columns, their scales, noise, and the priors."""
        entries, weight = self.entries, 1 / self.noise
        self.u, self.u_covariance = _posterior_of_rows(
            entries, self.v, self.v_covariance, weight, self.scale, self.left_prior
        )
        self.left_prior = _moments(self.u[self.rows_seen], self.u_covariance[self.rows_seen])
        # the columns: their noise is a factor
        grams = entries.column_grams(squares(self.u) + self.u_covariance)
        sums = entries.transposed_times(entries.values, self.u) / self.scale[:, None]
        precision = self.right_prior.precision
        self.v_covariance = inverses(weight[:, None, None] * grams + precision)
        fixed = self.v_covariance @ (precision @ self.right_prior.mean)
        linear = weight[:, None] * multiply(self.v_covariance, sums)
        self.v = fixed + linear
        # the sum of E (y - u v)^2 from those sums: no pass over the entries
        total = self.column_squares / self.scale**2
        square = total - 2 * np.sum(sums * self.v, 1)
        self.square = square + np.sum(grams * (squares(self.v) + self.v_covariance), (1, 2))
        if self.is_scaling:
            self.rescale(total - np.sum(sums * linear, 1), np.sum(sums * fixed, 1))
        self.right_prior = _moments(self.v[self.columns_seen], self.v_covariance[self.columns_seen])
        noise = shrunk(self.square, entries.column_counts, self.degrees)
        self.noise = np.maximum(noise, self.floor)
        self.noises = [*self.noises, float(self.noise @ entries.column_counts) / entries.count]

    def rescale(self, square: Array, product: Array) -> None:
        """Move the scales to where the likelihood of each column, given U, is largest.

        Over a scale r its logarithm is -n log r - square / (2 s r^2) - product / (s r) + const.
        """
        size = self.entries.column_counts * self.noise
        told = self.columns_seen & (square > ROUNDING * self.column_squares / self.scale**2)
        discriminant = np.where(told, product**2 + 4 * size * square, 1)
        ratio = np.where(told, (discriminant**0.5 - product) / np.where(told, 2 * size, 1), 1)
        # one that tells nothing stays, or it would drift away from sweep to sweep
        ratio = np.where(told, ratio / np.exp(np.sum(np.log(ratio)) / max(told.sum(), 1)), 1)
        self.scale = self.scale * ratio
        self.v = self.v / ratio[:, None]
        self.v_covariance = self.v_covariance / ratio[:, None, None] ** 2
        self.square = self.square / ratio**2

    def drop(self) -> None:
        """Turn to directions that are independent on both sides, and leave out the needless."""
        turn, back, sizes = _common_directions(self.left_prior, self.right_prior)
        kept = sizes > NEEDLESS * np.mean(self.noise)
        kept[0] = True
        turn, back = turn[:, kept], back[:, kept]
        self.u, self.u_covariance, self.left_prior = _turned(
            self.u, self.u_covariance, self.left_prior, turn
        )
        self.v, self.v_covariance, self.right_prior = _turned(
            self.v, self.v_covariance, self.right_prior, back
        )

    def posterior(self) -> Posterior:
        """Return what was found, in the units of the entries."""
        return Posterior(
            self.u,
            self.u_covariance,
            self.v * self.scale[:, None],
            self.v_covariance * self.scale[:, None, None] ** 2,
            self.noise * self.scale**2,
            self.left_prior,
            self.right_prior,
            self.scale,
            self.noises,
        )


def _common_directions(left: Prior, right: Prior) -> tuple[Array, Array, Array]:
    """Return T, T^-T, (k, k), and the mean squares of (T^T u)_i (T^-1 v)_i, the largest first.

    Both turned moments are diagonal, and the same.
    """
    moments = [prior.covariance + np.outer(prior.mean, prior.mean) for prior in (left, right)]
    values, vectors = np.linalg.eigh(moments[0])
    root = vectors * np.maximum(values, 1e-14 * values[-1]) ** 0.5
    sizes, rotation = np.linalg.eigh(root.T @ moments[1] @ root)
    sizes, rotation = sizes[::-1], rotation[:, ::-1]
    quarter = np.maximum(sizes, 1e-14 * sizes[0]) ** 0.25
    return np.linalg.inv(root).T @ (rotation * quarter), root @ (rotation / quarter), sizes


def _turned(
    rows: Array, covariance: Array, prior: Prior, turn: Array
) -> tuple[Array, Array, Prior]:
    new = Prior(turn.T @ prior.mean, turn.T @ prior.covariance @ turn)
    return rows @ turn, turn.T @ covariance @ turn, new


def _posterior_of_rows(
    entries: Entries,
    v: Array,
    v_covariance: Array,
    weight: Array,
    scale: Array,
    prior: Prior,
) -> tuple[Array, Array]:
    precision = prior.precision
    second = (squares(v) + v_covariance) * weight[:, None, None]
    covariance = inverses(entries.row_grams(second) + precision)
    sums = entries.times(entries.values, v * (weight / scale)[:, None])
    sums += precision @ prior.mean
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
