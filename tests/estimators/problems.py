"""Small matrices of low rank, of which some entries are known."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Problem(NamedTuple):
    truth: Array
    known: Array  # NaN where not observed, noise added

    @property
    def missing(self) -> Array:
        return np.isnan(self.known)


def low_rank(
    rows: int = 30,
    columns: int = 20,
    rank: int = 2,
    observed: int = 330,
    *,
    seed: int = 0,
    noise: float = 0.0,
) -> Problem:
    """A matrix of mean square 1; every row and column has an observed entry."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))
    truth /= np.sqrt(np.mean(truth**2))
    known = truth + noise * generator.normal(size=truth.shape)
    known.flat[generator.permutation(known.size)[observed:]] = np.nan
    assert not np.isnan(known).all(0).any()
    assert not np.isnan(known).all(1).any()
    return Problem(truth, known)


def mean_square(array: Array) -> float:
    return float(np.mean(np.square(array)))
