"""Joint covariances, against the inverse of the whole precision, and against what they promise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.completion.problems import entries_of, jacobian, table

from virtualdepth.completion import Posterior, entry_variances, variational_bayes
from virtualdepth.completion._joint import joint_covariances


def posterior_of(m: int, n: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], Posterior]:
    truth, mask = table(m, n, 2, 0.5)
    sizes = np.random.default_rng(2).uniform(0.1, 0.4, n)
    data = truth + sizes * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    entries = entries_of(data, mask)
    found = variational_bayes(entries, u[:, :2] * sigma[:2], vh[:2].T)
    return mask, data, found


def precision_of(mask: NDArray[np.bool_], found: Posterior) -> NDArray[np.float64]:
    """Of U and V together, the columns in units of their noise."""
    right = found.right / found.noise[:, None] ** 0.5
    rows = jacobian(found.left, right, mask)
    precision = rows.T @ rows
    for line in range(sum(mask.shape)):
        at = slice(2 * line, 2 * line + 2)
        column = line - len(mask)
        prior = found.prior if column < 0 else found.right_prior
        weight = 1 if column < 0 else found.noise[column] / found.scale[column] ** 2
        precision[at, at] += weight * prior.precision
    return precision


def test_against_the_inverse_of_the_whole_precision() -> None:
    mask, data, found = posterior_of(14, 9)
    precision = precision_of(mask, found)
    inner, outer = precision[:28, :28], precision[28:, :28]
    reduced = precision[28:, 28:] - outer @ np.linalg.solve(inner, outer.T)
    right = found.right / found.noise[:, None] ** 0.5
    right = right / np.linalg.norm(right, 2)
    precision[28:, 28:] += np.trace(reduced) / 18 * np.kron(right @ right.T, np.eye(2))
    expected = np.linalg.inv(precision).reshape(23, 2, 23, 2)
    left, right = joint_covariances(entries_of(data, mask), found)
    for i in range(14):
        np.testing.assert_allclose(left[i], expected[i, :, i], rtol=1e-8, atol=1e-12)
    for j in range(9):
        here = found.noise[j] * expected[14 + j, :, 14 + j]
        np.testing.assert_allclose(right[j], here, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_variances_of_entries_need_no_covariance_of_rows_and_columns(
    shape: tuple[int, int],
) -> None:
    mask, data, found = posterior_of(*shape)
    u, v = found.left, found.right
    all_entries = jacobian(u, v / found.noise[:, None] ** 0.5, np.ones(shape, bool))
    exact = np.sum((all_entries @ np.linalg.inv(precision_of(mask, found))) * all_entries, 1)
    exact = exact.reshape(shape) * found.noise
    at_rows, at_columns = np.nonzero(~mask)

    def share(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
        sides = u[at_rows], left[at_rows], v[at_columns], right[at_columns]
        return entry_variances(*sides) / exact[at_rows, at_columns]

    joint = share(*joint_covariances(entries_of(data, mask), found))
    assert 0.97 < np.median(joint) < 1.06
    assert 0.6 < joint.min() < joint.max() < 1.6
    assert np.median(share(found.left_covariance, found.right_covariance)) < 0.95


def test_a_table_and_its_transposed_are_the_same() -> None:
    mask, data, found = posterior_of(14, 9)
    found = found._replace(noise=np.full(9, 0.1), scale=np.ones(9))
    other = Posterior(
        found.right,
        found.right_covariance,
        found.left,
        found.left_covariance,
        np.full(14, 0.1),
        found.right_prior,
        found.prior,
        np.ones(14),
        [],
    )
    left, right = joint_covariances(entries_of(data, mask), found)
    flipped = joint_covariances(entries_of(data.T, mask.T), other)
    np.testing.assert_allclose(flipped[0], right, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(flipped[1], left, rtol=1e-8, atol=1e-12)


def test_too_large_a_table_keeps_its_covariances() -> None:
    truth, mask = table(2100, 20, 2, 0.9)
    found = variational_bayes(entries_of(truth, mask), truth[:, :2], np.eye(20, 2), sweeps=2)
    left, right = joint_covariances(entries_of(truth, mask), found)
    assert left is found.left_covariance
    assert right is found.right_covariance
