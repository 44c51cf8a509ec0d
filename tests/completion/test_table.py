"""Whole tables: exact to rounding, equivariant in the units of columns, honest in noise."""

import numpy as np
import pytest
from tests.completion.problems import entries_of, table

from virtualdepth.completion import Completed, complete_table
from virtualdepth.completion._units import (
    additive_units,
    centred_units,
    offset_share,
    scaled_units,
)


def whole(found: Completed) -> np.ndarray:
    return np.asarray(found.units.offset + found.solution.left @ found.right.T)


@pytest.mark.parametrize("shape", [(30, 25), (20, 40)])
@pytest.mark.parametrize("share", [0.45, 0.8])
def test_a_table_of_low_rank_is_exact(shape: tuple[int, int], share: float) -> None:
    truth, mask = table(*shape, 2, share)
    found = complete_table(entries_of(truth, mask))
    assert found.solution.exact
    assert found.solution.unique
    assert found.solution.rank == 2
    np.testing.assert_allclose(whole(found), truth, atol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_units_of_columns_do_not_matter(scale: float, offset: float) -> None:
    truth, mask = table(40, 25, 2, 0.7)
    scales = scale ** np.linspace(-1, 1, 25)
    offsets = offset * scales * np.linspace(-1, 1, 25)
    expected = whole(complete_table(entries_of(truth, mask)))
    found = complete_table(entries_of(offsets + scales * truth, mask))
    assert found.solution.exact
    np.testing.assert_allclose(
        (whole(found) - offsets) / scales, expected, atol=1e-6 * np.abs(expected).max()
    )


def test_standardised_columns() -> None:
    truth, mask = table(40, 5, 2, 0.7)
    data = np.linspace(-3, 3, 5) + truth
    data[:, 2] = 0.1
    entries = entries_of(data, mask)
    units = centred_units(entries, 2.0**-53)
    known = np.where(mask, data, np.nan)
    np.testing.assert_allclose(units.offset, np.nanmean(known, 0), atol=1e-12)
    np.testing.assert_allclose(units.scale[[0, 1, 3, 4]], np.nanstd(known, 0)[[0, 1, 3, 4]])
    assert units.scale[2] == 0
    assert units.offset[2] == 0.1
    assert not (units.standardise(entries).columns == 2).any()
    plain = scaled_units(entries, 2.0**-53)
    np.testing.assert_allclose(plain.scale, np.sqrt(np.nanmean(known**2, 0)))
    square = np.nanmean(known, 0) ** 2 / np.nanmean(known**2, 0)
    live = [0, 1, 3, 4]
    expected = np.average(square[live], weights=mask.sum(0)[live])
    assert offset_share(entries, units) == pytest.approx(expected)


def noisy(
    rows: int, columns: int, share: float, spread: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A table of rank two, with offsets, and noises that spread between columns."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=(rows, 2)) @ random.normal(size=(2, columns))
    truth += random.normal(size=columns)
    sizes = 0.1 * np.exp(spread * random.normal(size=columns))
    data = truth + sizes * random.normal(size=truth.shape)
    return truth, np.where(random.random(truth.shape) < share, data, np.nan)


def change(truth: np.ndarray, known: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> float:
    """How much the result depends on units, in units of its error."""

    def fit(x: np.ndarray) -> np.ndarray:
        return whole(complete_table(entries_of(x, ~np.isnan(x))))

    base = fit(known)
    other = (fit(known * scale + offset) - offset) / scale
    return float(np.linalg.norm(other - base) / np.linalg.norm(base - truth))


@pytest.mark.parametrize("seed", range(3))
def test_with_noise_offsets_do_not_matter(seed: int) -> None:
    truth, known = noisy(60, 30, 0.5, 0.0, seed)
    place = np.random.default_rng(9).uniform(-1, 1, 30)
    for scale, offset in ((1e-8, 1.0), (1.0, 1e3), (1e8, 1e6)):
        assert change(truth, known, np.full(30, scale), offset * scale * place) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_with_noise_units_do_not_matter_where_columns_tell_their_noise(seed: int) -> None:
    truth, known = noisy(200, 12, 0.8, 1.0, seed)
    scale = 1e8 ** np.random.default_rng(seed).uniform(-1, 1, 12)
    assert change(truth, known, scale, 1e6 * scale) < 0.05


def test_with_noise_units_do_not_matter_where_entries_are_few() -> None:
    truth, known = noisy(40, 30, 0.35, 0.0, 0)
    scale = 1e8 ** np.random.default_rng(0).uniform(-1, 1, 30)
    assert change(truth, known, scale, np.zeros(30)) < 0.01


def test_offsets_do_not_follow_the_rows_that_columns_were_seen_in() -> None:
    random = np.random.default_rng(0)
    rows, offsets = np.linspace(-2, 2, 60)[:, None], random.normal(size=25)
    data = rows + offsets + 0.1 * random.normal(size=(60, 25))
    first = random.integers(0, 60, size=25)
    mask = (np.arange(60)[:, None] - first) % 60 < 30
    entries = entries_of(data, mask)
    means = centred_units(entries, 2.0**-53)
    units, sureness = additive_units(entries, means)

    def error(found: np.ndarray) -> float:
        return float(np.std(found - offsets))  # a constant may go to the rows

    assert error(means.offset) > 0.3
    assert error(units.offset) < 0.5 * error(means.offset)
    assert sureness > 100
    np.testing.assert_array_equal(units.scale, means.scale)


def test_without_row_effects_offsets_are_means() -> None:
    random = np.random.default_rng(1)
    data, mask = random.normal(size=(300, 50)), random.random((300, 50)) < 0.3
    entries = entries_of(data, mask)
    means = centred_units(entries, 2.0**-53)
    units, sureness = additive_units(entries, means)
    assert np.std(units.offset - means.offset) < 0.1 * np.std(means.offset)
    assert sureness == pytest.approx(1, abs=0.5)
