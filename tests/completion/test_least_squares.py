"""The steps of the homotopy and of Gauss-Newton, against literal least squares."""

import numpy as np
import pytest
from scipy.optimize import least_squares
from tests.completion.problems import FORMS, entries_of, jacobian, table

from virtualdepth.completion import Entries
from virtualdepth.completion._gauss_newton import fitted_rows, gauged, gauss_newton, reduced_matrix
from virtualdepth.completion._homotopy import (
    Path,
    homotopy,
    leading_of_entries,
    leading_of_sum,
)
from virtualdepth.completion._two_sided import Reduced, conjugate_gradients

RANDOM = np.random.default_rng(2)


@pytest.mark.parametrize("form", FORMS)
def test_two_sided_least_squares(form: type[Entries]) -> None:
    truth, mask = table()
    entries = entries_of(truth, mask, form)
    (m, n), k, ridge = truth.shape, 3, 0.3
    left, right = RANDOM.normal(size=(m, k)), RANDOM.normal(size=(n, k))
    system = Reduced(entries, left, right, ridge)
    start = RANDOM.normal(size=(n, k))
    b, _ = conjugate_gradients(
        system, system.right_hand_side(entries.values), start, tol=1e-13, most=500
    )
    a = system.rows_for(entries.values - entries.product(left, b))
    design = jacobian(left, right, mask)
    full = np.concatenate([design, ridge**0.5 * np.eye(design.shape[1])])
    expected = np.linalg.lstsq(full, np.append(truth[mask], np.zeros(design.shape[1])))[0]
    np.testing.assert_allclose(np.append(a, b), expected, atol=1e-9)


def test_a_step_of_the_path_minimises_the_reweighted_norm() -> None:
    # literally: X minimises <X, P^{-1} X> over the matrices with these entries, so X = P(Z) for a
    # Z on the entries, P(Z) = H_L Z + Z H_R
    truth, mask = table(9, 8)
    entries = entries_of(truth, mask)
    points = homotopy(entries, Path(8, steps=2000))
    last = next(points)
    for point in points:
        if point.eps < 0.02 * point.sigma[0]:
            break
        size = np.maximum(last.sigma, point.eps)
        h_left, h_right = (
            (basis * (size**2 - point.eps**2)) @ basis.T + point.eps**2 * np.eye(len(basis))
            for basis in (last.u, last.v)
        )
        rows, columns = np.nonzero(mask)
        kernel = h_left[np.ix_(rows, rows)] * (columns[:, None] == columns)
        kernel = kernel + h_right[np.ix_(columns, columns)] * (rows[:, None] == rows)
        z = np.zeros(truth.shape)
        z[mask] = np.linalg.solve(kernel, truth[mask])
        expected = h_left @ z + z @ h_right
        found = (point.u * point.sigma) @ point.v.T
        np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
        last = point


def test_leading_triples() -> None:
    truth, mask = table(30, 25, 4)
    entries = entries_of(truth, mask)
    zero = np.zeros((30, 25)), np.eye(25)
    random = np.random.default_rng(0)
    known = np.where(mask, truth, 0)
    for u, sigma, v in (
        leading_of_sum(entries, zero, zero, entries.values, 25, random),
        leading_of_entries(entries, 25, random),
    ):
        np.testing.assert_allclose((u * sigma) @ v.T, known, atol=1e-10)
        np.testing.assert_allclose(sigma, np.linalg.svd(known)[1], atol=1e-10)


def test_the_reduced_matrix_is_the_schur_complement() -> None:
    truth, mask = table()
    entries = entries_of(truth, mask)
    u, v = RANDOM.normal(size=(14, 2)), np.linalg.qr(RANDOM.normal(size=(11, 2)))[0]
    whole = jacobian(u, v, mask)
    of_u, of_v = whole[:, :28], whole[:, 28:]
    schur = of_v.T @ of_v - of_v.T @ of_u @ np.linalg.solve(of_u.T @ of_u, of_u.T @ of_v)
    found = reduced_matrix(entries, u, v)
    np.testing.assert_allclose(found, schur, atol=1e-9)
    b = RANDOM.normal(size=v.shape)
    np.testing.assert_allclose(
        Reduced(entries, u, v, 0.0).apply(b).ravel(), schur @ b.ravel(), atol=1e-9
    )
    within = v @ RANDOM.normal(size=(2, 2))
    np.testing.assert_allclose(
        gauged(found, v, 3.0) @ within.ravel(),
        3 * within.ravel() + schur @ within.ravel(),
        atol=1e-9,
    )


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("direct", [0, 1500])
def test_gauss_newton_finds_the_minimum(
    noise: float, direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtualdepth.completion._gauss_newton.DIRECT", direct)
    truth, mask = table(12, 9, 2, 0.8)
    data = truth + noise * RANDOM.normal(size=truth.shape)
    entries = entries_of(data, mask)
    start = np.linalg.svd(np.where(mask, data, 0))[2][:2].T
    fit = gauss_newton(entries, start, steps=100, goal=1e-13)

    def residual(flat):
        return (flat[:24].reshape(12, 2) @ flat[24:].reshape(9, 2).T - data)[mask]

    first = np.append(fitted_rows(entries, start), start)
    other = least_squares(residual, first, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    norm = np.linalg.norm(data[mask])
    expected = np.sqrt(2 * other.cost) / norm
    assert fit.residual == pytest.approx(expected, abs=1e-12, rel=1e-3)  # as it ends
    gap = (fit.left @ fit.right.T - data)[mask]
    assert np.linalg.norm(gap) / norm == pytest.approx(fit.residual, abs=1e-14)
    if noise == 0:
        np.testing.assert_allclose(fit.left @ fit.right.T, truth, atol=1e-10)


def test_a_path_with_offsets_takes_them_out_of_the_rank() -> None:
    truth, mask = table(40, 30, 2, 0.5)
    data = truth + np.random.default_rng(0).normal(size=30)
    path = Path(12, least=1e-5, steps=500)
    *_, plain = homotopy(entries_of(data, mask), path)
    *_, free = homotopy(entries_of(data, mask), path._replace(offset=True))
    for point in (plain, free):
        whole = (point.u * point.sigma) @ point.v.T + point.offset
        np.testing.assert_allclose(whole, data, atol=1e-6)
    assert plain.sigma[2] > 1
    assert not plain.offset.any()
    assert free.sigma[2] < 1e-6
