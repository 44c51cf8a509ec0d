"""Products on the observed entries, in both forms, against whole matrices."""

import numpy as np
import pytest
from tests.completion.problems import FORMS, Array, entries_of, table

from virtualdepth.completion import Entries, observe
from virtualdepth.completion._blocks import squares
from virtualdepth.completion._entries import DenseEntries, ListedEntries

RANDOM = np.random.default_rng(5)
LEFT, RIGHT = RANDOM.normal(size=(14, 3)), RANDOM.normal(size=(11, 3))


def whole(entries: Entries, data: Array) -> Array:
    """Data on the entries as a matrix with zeros elsewhere."""
    return np.asarray(entries.times(data, np.eye(entries.shape[1])))


@pytest.mark.parametrize("form", FORMS)
def test_products_are_those_of_whole_matrices(form: type[Entries]) -> None:
    truth, mask = table()
    entries = entries_of(truth, mask, form)
    known = np.where(mask, truth, 0)
    np.testing.assert_array_equal(whole(entries, entries.values), known)
    product = entries.product(LEFT, RIGHT)
    np.testing.assert_allclose(whole(entries, product), mask * (LEFT @ RIGHT.T), atol=1e-13)
    np.testing.assert_allclose(entries.times(entries.values, RIGHT), known @ RIGHT, atol=1e-13)
    found = entries.transposed_times(entries.values, LEFT)
    np.testing.assert_allclose(found, known.T @ LEFT, atol=1e-13)
    grams = np.einsum("ij,jab->iab", mask.astype(float), squares(RIGHT))
    np.testing.assert_allclose(entries.row_grams(squares(RIGHT)), grams, atol=1e-13)
    grams = np.einsum("ij,iab->jab", mask.astype(float), squares(LEFT))
    np.testing.assert_allclose(entries.column_grams(squares(LEFT)), grams, atol=1e-13)
    assert np.linalg.norm(entries.values) == pytest.approx(np.linalg.norm(known), rel=1e-14)
    np.testing.assert_array_equal(entries.row_counts, mask.sum(1))
    np.testing.assert_array_equal(entries.column_counts, mask.sum(0))
    np.testing.assert_allclose(entries.predictions(LEFT, RIGHT), (LEFT @ RIGHT.T)[mask], atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_parts_and_transposes(form: type[Entries]) -> None:
    truth, mask = table()
    entries = entries_of(truth, mask, form)
    values, seen = entries.transposed.whole()
    np.testing.assert_array_equal(values, np.where(mask, truth, 0).T)
    np.testing.assert_array_equal(seen, mask.T)
    chosen = np.arange(entries.count) % 3 == 0
    part = entries.keep(chosen)
    np.testing.assert_array_equal(part.listed, truth[mask][chosen])
    assert part.shape == entries.shape
    np.testing.assert_array_equal(entries.with_values(2 * entries.listed).whole()[0], 2 * values.T)


def test_the_form_follows_the_density() -> None:
    rows = np.arange(100)
    assert isinstance(observe(rows, rows, np.ones(100), (100, 100)), ListedEntries)
    assert isinstance(observe(rows, rows % 5, np.ones(100), (100, 5)), DenseEntries)
    given = observe(np.array([1, 0, 1]), np.array([1, 1, 0]), np.array([3.0, 1.0, 2.0]), (2, 2))
    np.testing.assert_array_equal(given.listed, [1, 2, 3])  # by row, then by column
