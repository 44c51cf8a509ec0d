"""Variational Bayes, against its update equations written out, and what it must find."""

import numpy as np
import pytest
from tests.completion.problems import FORMS, entries_of, table

from virtualdepth.completion import Entries, entry_variances, variational_bayes


@pytest.mark.parametrize("form", FORMS)
def test_a_fixed_point_satisfies_the_equations(form: type[Entries]) -> None:
    truth, mask = table(20, 15, 2)
    data = 1 + truth + 0.2 * np.random.default_rng(1).normal(size=truth.shape)
    entries = entries_of(data, mask, form)
    u, sigma, vh = np.linalg.svd(np.where(mask, data, 0))
    found = variational_bayes(entries, u[:, :3] * sigma[:3], vh[:3].T, sweeps=1500, tol=0.0)
    left, s, right, t = found[:4]
    mean, prior = found.prior.mean, found.prior.covariance
    np.testing.assert_allclose(mean, left.mean(0), atol=1e-8)
    expected = (left - mean).T @ (left - mean) / 20 + s.mean(0)
    np.testing.assert_allclose(prior, expected, atol=1e-8)
    precision = np.linalg.inv(prior + 1e-9 * np.trace(prior) * np.eye(3))
    for i in range(20):
        seen = np.flatnonzero(mask[i])
        inner = precision.copy()
        target = precision @ mean
        for j in seen:
            inner += (np.outer(right[j], right[j]) + t[j]) / found.noise[j]
            target += right[j] * data[i, j] / found.noise[j]
        np.testing.assert_allclose(s[i], np.linalg.inv(inner), atol=1e-6)
        np.testing.assert_allclose(left[i], np.linalg.solve(inner, target), atol=1e-6)
    square = np.zeros(15)
    for i, j in zip(*np.nonzero(mask), strict=True):
        square[j] += (data[i, j] - left[i] @ right[j]) ** 2 + entry_variances(
            left[i : i + 1], s[i : i + 1], right[j : j + 1], t[j : j + 1]
        )[0]
    common = square.sum() / mask.sum()
    # noises of the columns are this mixture for one count of the prior, maybe infinite
    share = np.polyfit(square / mask.sum(0) - common, found.noise - common, 1)
    assert -1e-6 < share[0] < 1
    assert found.noise @ mask.sum(0) == pytest.approx(square.sum(), rel=0.05)


def test_variance_of_a_product() -> None:
    random = np.random.default_rng(0)
    roots = random.normal(size=(2, 2, 2))
    s, t = (root @ root.T for root in roots)
    u, v = random.normal(size=(2, 2))
    draws = (u + random.normal(size=(400_000, 2)) @ roots[0].T) * (
        v + random.normal(size=(400_000, 2)) @ roots[1].T
    )
    found = entry_variances(u[None], s[None], v[None], t[None])[0]
    assert found == pytest.approx(draws.sum(1).var(), rel=0.02)


def test_a_needless_direction_shrinks_to_zero() -> None:
    truth, mask = table(60, 50, 2, 0.6)
    data = truth + 0.1 * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(np.where(mask, data, 0), full_matrices=False)
    found = variational_bayes(entries_of(data, mask), u[:, :6] * sigma[:6], vh[:6].T, sweeps=300)
    sigma = np.linalg.svd(found.left @ found.right.T, compute_uv=False)
    assert sigma[1] > 10
    assert sigma[2] < 0.02 * sigma[1]
    assert found.noise.mean() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("flip", [False, True])
def test_the_bound_finds_the_right_profile(flip: bool) -> None:
    truth, mask = table(60, 50, 3, 0.25)
    sizes = np.random.default_rng(2).uniform(0.05, 0.5, 50)
    data = truth + sizes * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    profile = sizes**2 / np.mean(sizes**2)
    other = np.flip(profile)
    found = variational_bayes(
        entries_of(data, mask),
        u[:, :3] * sigma[:3],
        vh[:3].T,
        profiles=(other, profile) if flip else (profile, other),
    )
    np.testing.assert_allclose(found.noise / sizes**2, found.noise[0] / sizes[0] ** 2, rtol=0.2)
    assert found.noise[0] / sizes[0] ** 2 == pytest.approx(1, rel=0.15)


def test_directions_that_are_needless_are_left_out_and_the_rest_is_turned() -> None:
    truth, mask = table(60, 50, 2, 0.6)
    data = truth + 0.1 * np.random.default_rng(1).normal(size=truth.shape)
    entries = entries_of(data, mask)
    u, _, vh = np.linalg.svd(truth, full_matrices=False)
    wide = variational_bayes(entries, u[:, :6] * 10, vh[:6].T, sweeps=400, tol=1e-10)
    narrow = variational_bayes(entries, u[:, :2] * 10, vh[:2].T, sweeps=400, tol=1e-10)
    assert wide.left.shape[1] == 2
    for found in (wide, narrow):
        moments = [
            p.covariance + np.outer(p.mean, p.mean) for p in (found.prior, found.right_prior)
        ]
        np.testing.assert_allclose(moments[0], moments[1], atol=1e-10)
        np.testing.assert_allclose(moments[0], np.diag(np.diag(moments[0])), atol=1e-10)
    np.testing.assert_allclose(wide.left @ wide.right.T, narrow.left @ narrow.right.T, atol=1e-4)
    np.testing.assert_allclose(
        np.linalg.det(wide.left_covariance), np.linalg.det(narrow.left_covariance), rtol=1e-3
    )


def test_noise_of_a_column_is_its_own() -> None:
    truth, mask = table(200, 12, 2, 0.8)
    sizes = np.geomspace(0.05, 0.8, 12)
    data = truth + sizes * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(np.where(mask, data, 0), full_matrices=False)
    found = variational_bayes(entries_of(data, mask), u[:, :3] * sigma[:3], vh[:3].T, sweeps=500)
    np.testing.assert_allclose(found.noise[5:] ** 0.5, sizes[5:], rtol=0.25)
