"""What completing entries ends at, and how factors become it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Posterior
from virtualdepth.completion._blocks import effective_size
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._joint import joint_covariances
from virtualdepth.completion._noise import SHRINKAGE, shrunk

Array = NDArray[Any]


class Solution(NamedTuple):
    """A completed table left right^T, in the units of its entries.

    Attributes:
        left: (m, k).
        right: (n, k).
        left_covariance: (m, k, k), or None where the rows are certain.
        right_covariance: (n, k, k), or None.
        noise: variance of an entry of each column about left right^T, (n,).
        error: further variance of every entry, of methods that have no posterior.
        rank: how many directions are no noise.
        exact: whether the residual is at the rounding level.
        unique: whether the entries determine it locally; None if it is not exact.
        method: what it is from.
        errors: held-out mean squares of the methods that were compared.
        history: what happened, by name.
        weights: of those methods, if they were.
    """

    left: Array
    right: Array
    left_covariance: Array | None
    right_covariance: Array | None
    noise: Array
    error: float
    rank: int
    exact: bool
    unique: bool | None
    method: str
    errors: dict[str, float]
    history: dict[str, list[float]]
    weights: dict[str, float] = {}  # noqa: RUF012


def bayes_solution(
    entries: Entries,
    posterior: Posterior,
    errors: dict[str, float],
    history: dict[str, list[float]],
) -> Solution:
    """Return the posterior as a solution."""
    rows, columns = joint_covariances(entries, posterior)
    return Solution(
        left=posterior.left,
        right=posterior.right,
        left_covariance=rows,
        right_covariance=columns,
        noise=posterior.noise,
        error=0.0,
        rank=effective_size(posterior.left, posterior.right),
        exact=False,
        unique=None,
        method="bayes",
        errors=errors,
        history=history,
    )


def plain_solution_of(
    entries: Entries, name: str, factors: tuple[Array, Array], history: dict[str, list[float]]
) -> Solution:
    """Return factors of which nothing more is known than how they fit."""
    left, right = factors
    residual = (entries.listed - entries.predictions(left, right)) ** 2
    sums = np.bincount(entries.columns, residual, minlength=entries.shape[1])
    return Solution(
        left=left,
        right=right,
        left_covariance=None,
        right_covariance=None,
        noise=shrunk(sums, entries.column_counts, SHRINKAGE),
        error=0.0,
        rank=effective_size(left, right),
        exact=False,
        unique=None,
        method=name,
        errors={},
        history=history,
    )
