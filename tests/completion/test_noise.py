"""Noises of columns: how much they are shrunk, against draws from the prior that is assumed."""

import numpy as np
import pytest
from scipy.special import polygamma

from virtualdepth.completion._noise import degrees_of_noises, shrunk


def draws(prior: float, count: int = 30, columns: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    noise = (
        np.full(columns, 2.0) if prior == np.inf else 2 * prior / random.chisquare(prior, columns)
    )
    return noise, noise * random.chisquare(count, columns)


@pytest.mark.parametrize("prior", [3.0, 10.0, 60.0])
def test_the_count_of_the_prior_is_found(prior: float) -> None:
    _, square = draws(prior)
    found = degrees_of_noises(square, np.full(4000, 30))
    assert found == pytest.approx(prior, rel=0.2)
    excess = polygamma(1, found / 2) + polygamma(1, 15)
    assert np.var(np.log(square), ddof=1) == pytest.approx(excess, rel=1e-6)


def test_equal_noises_are_pooled() -> None:
    square = 60 * np.linspace(0.9, 1.1, 40)  # less spread than by chance
    counts = np.full(40, 30)
    found = degrees_of_noises(square, counts)
    assert found == np.inf
    np.testing.assert_allclose(shrunk(square, counts, found), square.sum() / 1200, rtol=1e-12)


def test_shrinking_lowers_the_error() -> None:
    noise, square = draws(10.0)
    counts = np.full(4000, 30)
    best = degrees_of_noises(square, counts)

    def error(degrees: float) -> float:
        return float(np.mean((shrunk(square, counts, degrees) / noise - 1) ** 2))

    assert error(best) < 0.97 * min(error(0.0), error(np.inf))


@pytest.mark.parametrize("columns", [1, 2])
def test_few_columns(columns: int) -> None:
    assert degrees_of_noises(np.full(columns, 3.0), np.full(columns, 1)) == np.inf


def test_a_column_without_entries_says_nothing() -> None:
    _, square = draws(10.0)
    counts = np.full(4000, 30)
    alone = degrees_of_noises(square[1:], counts[1:])
    square[0] = counts[0] = 0
    assert degrees_of_noises(square, counts) == alone
