"""Variational Bayes, against its update equations written out, and what it must find."""

import numpy as np
import pytest
from tests.completion.problems import FORMS, entries_of, table

from virtualdepth.completion import Entries, entry_variances, variational_bayes
from virtualdepth.completion._bayes import _Chain
from virtualdepth.completion._watch import unwatched


@pytest.mark.parametrize("form", FORMS)
def test_a_fixed_point_satisfies_the_equations(form: type[Entries]) -> None:
    truth, mask = table(20, 15, 2)
    data = 1 + truth + 0.2 * np.random.default_rng(1).normal(size=truth.shape)
    entries = entries_of(data, mask, form)
    u, sigma, vh = np.linalg.svd(np.where(mask, data, 0))
    found = variational_bayes(entries, u[:, :3] * sigma[:3], vh[:3].T, sweeps=1500, tol=0.0)
    # all in units of the scales of the columns
    data, noise = data / found.scale, found.noise / found.scale**2
    left, s = found.left, found.left_covariance
    right = found.right / found.scale[:, None]
    t = found.right_covariance / found.scale[:, None, None] ** 2
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
            inner += (np.outer(right[j], right[j]) + t[j]) / noise[j]
            target += right[j] * data[i, j] / noise[j]
        np.testing.assert_allclose(s[i], np.linalg.inv(inner), atol=1e-6)
        np.testing.assert_allclose(left[i], np.linalg.solve(inner, target), atol=1e-6)
    square = np.zeros(15)
    for i, j in zip(*np.nonzero(mask), strict=True):
        square[j] += (data[i, j] - left[i] @ right[j]) ** 2 + entry_variances(
            left[i : i + 1], s[i : i + 1], right[j : j + 1], t[j : j + 1]
        )[0]
    common = square.sum() / mask.sum()
    # noises of the columns are this mixture for one count of the prior, maybe infinite
    share = np.polyfit(square / mask.sum(0) - common, noise - common, 1)
    assert -1e-6 < share[0] < 1
    assert noise @ mask.sum(0) == pytest.approx(square.sum(), rel=0.05)


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


def test_the_scales_of_columns_are_those_of_signal_and_noise() -> None:
    truth, mask = table(60, 50, 3, 0.4)
    scales = np.geomspace(1e-4, 1e4, 50)
    data = scales * (truth + 0.3 * np.random.default_rng(1).normal(size=truth.shape))
    u, sigma, vh = np.linalg.svd(truth, full_matrices=False)
    start = u[:, :3] * sigma[:3], vh[:3].T
    plain = variational_bayes(entries_of(data / scales, mask), *start, sweeps=400, tol=1e-9)
    rms = np.sqrt(np.mean(data**2, 0, where=mask))
    found = variational_bayes(
        entries_of(data / rms, mask),
        start[0],
        start[1] * (scales / rms)[:, None],
        sweeps=400,
        tol=1e-9,
    )
    # the same from either units
    np.testing.assert_allclose(
        (found.left @ found.right.T) * rms / scales, plain.left @ plain.right.T, atol=1e-4
    )
    ratio = found.scale * rms / scales
    np.testing.assert_allclose(ratio / ratio[0], plain.scale / plain.scale[0], rtol=1e-4)
    # a column of about 24 entries tells its scale to about 1 / sqrt(48)
    assert 0.08 < np.std(np.log(ratio)) < 0.2
    assert np.std(np.log(rms / scales)) > 0.3


def test_a_column_without_entries_changes_nothing() -> None:
    truth, mask = table(30, 15, 2)
    data = truth + 0.2 * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(np.where(mask, data, 0))
    start = u[:, :4] * sigma[:4], vh[:4].T
    plain = variational_bayes(entries_of(data, mask), *start, sweeps=40, tol=0.0)
    wider, more = np.pad(data, ((0, 0), (0, 1))), np.pad(mask, ((0, 0), (0, 1)))
    wide_start = start[0], np.pad(start[1], ((0, 1), (0, 0)))
    found = variational_bayes(entries_of(wider, more), *wide_start, sweeps=40, tol=0.0)
    assert found.scale[-1] == 1
    # where factors start has another balance
    np.testing.assert_allclose(found.scale[:-1], plain.scale, rtol=1e-3)
    np.testing.assert_allclose(
        found.left @ found.right[:-1].T, plain.left @ plain.right.T, atol=1e-3
    )


@pytest.mark.parametrize("mean", [0.0, 2.0])
def test_scales_maximise_the_likelihood_given_the_left_factor(mean: float) -> None:
    truth, mask = table(30, 12, 2, 0.7)
    data = mean + truth + 0.3 * np.random.default_rng(1).normal(size=truth.shape)
    u, sigma, vh = np.linalg.svd(data, full_matrices=False)
    chain = _Chain(entries_of(data, mask), u[:, :3] * sigma[:3], vh[:3].T, unwatched)
    chain.run(1000, 0.0)
    prior, noise = chain.right_prior, chain.noise[0]
    places = np.nonzero(mask)
    for j in range(12):
        seen = places[0][places[1] == j]
        y, u_seen = data[seen, j] / chain.scale[j], chain.u[seen]
        gram = u_seen.T @ u_seen + chain.u_covariance[seen].sum(0)
        inner = np.linalg.inv(gram / noise + prior.precision)
        # the logarithm of the likelihood of y / r, times -2, about r = 1
        deviances = []
        for r in (0.99, 1.0, 1.01):
            target = u_seen.T @ y / r / noise + prior.precision @ prior.mean
            fit = y @ y / r**2 / noise - target @ inner @ target
            deviances.append(float(2 * len(y) * np.log(r) + fit))
        assert deviances[1] <= min(deviances[0], deviances[2])


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
