"""Sweeps of a basis: they give the rule, or say that they do not."""

import math

import pytest
import torch
from tests.maths.jacobi.moved import SPECTRA, error, moved, truth
from tests.maths.matrices import gaussian, with_spectrum

from virtualdepth.maths.jacobi import (
    MAX_RESIDUAL,
    exact_basis,
    precondition_in_basis,
    sweep,
    sweep_async,
    without_sweep,
)

SMALL_SPECTRA = {
    "spread": torch.linspace(1, 0.05, 24, dtype=torch.float64),
    "clusters": torch.cat([torch.ones(12), torch.full((12,), 0.3)]).double()
    + 1e-4 * torch.arange(24, dtype=torch.float64),
    "decades": torch.logspace(0, -3, 24, dtype=torch.float64),
}


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("blocks_first", [False, True])
@pytest.mark.parametrize(("kind", "size"), [("spread", 0.01), ("pairs", 0.01), ("decades", 0.003)])
@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_a_long_way_takes_several_sweeps(
    kind: str, size: float, depth: float, blocks_first: bool, shifted: bool
) -> None:
    """Too far for one sweep, and not far enough for an SVD."""
    before, weight = moved(kind, size)
    basis, grad = exact_basis(before), gaussian(64, 64, seed=3)
    found = sweep(
        basis.left, basis.left.mT @ weight, depth, blocks_first=blocks_first, shifted=shifted
    )
    assert found is not None
    assert found.residual <= MAX_RESIDUAL
    direction = precondition_in_basis(found.basis, grad, depth)[0].direction
    assert error(direction, truth(weight, grad, depth)) < 2e-4
    torch.testing.assert_close(found.basis.left @ found.basis.rows, weight, rtol=0, atol=1e-4)


def test_what_is_left_over_does_not_add_up() -> None:
    before, _ = moved("spread", 0.0)
    basis, weight = exact_basis(before), before
    step = 3e-3 * before.norm() * gaussian(64, 64, seed=5) / 64
    for number in range(30):
        change = basis.left.mT @ step
        weight = weight + step
        found = sweep(basis.left, basis.rows + change, 3.0, shifted=number % 2 == 1)
        assert found is not None
        basis = found.basis
        assert found.residual < 2e-4
    off = basis.rows @ basis.rows.mT - torch.diag(basis.norms.square())
    assert off.norm() < 3e-4 * basis.norms.square().norm()
    torch.testing.assert_close(basis.left @ basis.rows, weight, rtol=0, atol=1e-3)


def test_without_a_sweep_the_residual_is_measured() -> None:
    before, weight = moved("spread", 1e-3)
    basis = exact_basis(before)
    assert without_sweep(basis.left, basis.rows, 3.0).residual < 1e-12
    kept = without_sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert kept.basis.left is basis.left
    assert not kept.reorthogonalised
    assert 3e-4 < kept.residual < 3e-3
    skewed = without_sweep(1.001 * basis.left, basis.rows, 3.0)
    assert skewed.residual == pytest.approx(2e-3, rel=1e-2)


@pytest.mark.parametrize("scale", [1e25, float("nan"), float("inf")])
def test_blocks_that_are_not_finite_are_refused(scale: float) -> None:
    weight = with_spectrum((64, 64), SPECTRA["spread"]).float()
    basis = exact_basis(weight)
    assert sweep(basis.left, scale * basis.rows, 3.0, blocks_first=True) is None


@pytest.mark.parametrize("kind", SMALL_SPECTRA)
@pytest.mark.parametrize("shape", [(24, 24), (24, 60)], ids=str)
@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-3, 3e-3])
@pytest.mark.parametrize("depth", [2.0, 3.0, 8.0])
def test_a_swept_basis_gives_the_rule_or_says_that_it_does_not(
    kind: str, shape: tuple[int, int], size: float, depth: float
) -> None:
    before = with_spectrum(shape, SMALL_SPECTRA[kind], seed=1)
    change = gaussian(*shape, seed=2)
    weight = before + size * change / change.norm() * before.norm()
    grad = gaussian(*shape, seed=3)
    basis = exact_basis(before)
    expected = truth(weight, grad, depth)
    rows = basis.left.mT @ weight
    found = sweep(basis.left, rows, depth)
    unread = sweep_async(basis.left, rows, depth)
    assert found is not None or size > 1e-6
    for swept in (found, unread):
        if swept is None or not float(swept.residual) <= MAX_RESIDUAL:
            continue
        assert error(precondition_in_basis(swept.basis, grad, depth)[0].direction, expected) < 2e-3
        torch.testing.assert_close(swept.basis.left @ swept.basis.rows, weight, rtol=0, atol=1e-3)
        identity = torch.eye(24, dtype=torch.float64)
        assert error(swept.basis.left.mT @ swept.basis.left, identity) < 1e-3


def test_a_basis_of_another_matrix_is_refused() -> None:
    basis, other = exact_basis(gaussian(24, 24, seed=1)), gaussian(24, 24, seed=2)
    rows = basis.left.mT @ other
    assert sweep(basis.left, rows, 3.0) is None
    assert sweep_async(basis.left, rows, 3.0).residual > MAX_RESIDUAL
    # U itself no longer orthogonal
    assert sweep(1.1 * basis.left, 1.1 * basis.rows, 3.0) is None
    assert sweep_async(1.5 * basis.left, 1.5 * basis.rows, 3.0).residual > MAX_RESIDUAL


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    basis = exact_basis(gaussian(6, 8))
    for left, rows in ((basis.left, basis.rows * bad), (basis.left * bad, basis.rows)):
        assert sweep(left, rows, 3.0) is None
        assert not sweep_async(left, rows, 3.0).residual <= MAX_RESIDUAL


def test_a_second_sweep_corrects_the_first() -> None:
    """What one leaves, the next sees: errors do not add up."""
    before, change = (
        with_spectrum((24, 24), SMALL_SPECTRA["spread"], seed=1),
        gaussian(24, 24, seed=2),
    )
    weight = before + 1e-3 * change / change.norm() * before.norm()
    basis = exact_basis(before)
    once = sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert once is not None
    again = sweep(once.basis.left, once.basis.rows, 3.0)
    assert again is not None
    left_over = [
        error(each.basis.rows @ each.basis.rows.mT, torch.diag(each.basis.norms.square()))
        for each in (once, again)
    ]
    assert left_over[1] < 0.1 * left_over[0]


def test_matrices_of_a_batch_are_swept_one_by_one() -> None:
    before = torch.stack(
        [with_spectrum((24, 30), SMALL_SPECTRA[kind], seed=1) for kind in SMALL_SPECTRA]
    )
    weight = before + 1e-5 * gaussian(3, 24, 30)
    basis = exact_basis(before)
    together = sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert together is not None
    for number in range(3):
        alone = sweep(basis.left[number], basis.left[number].mT @ weight[number], 3.0)
        assert alone is not None
        assert error(together.basis.rows[number], alone.basis.rows) < 1e-3
