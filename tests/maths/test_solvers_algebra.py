"""The product-only ways to P_W(G), against the literal formula in numpy and plain products."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maths.matrices import gaussian, orthonormal, with_spectrum
from tests.optim.truth import preconditioned
from torch import Tensor

from virtualdepth.maths import polar_gradient
from virtualdepth.maths._kernel import depth_kernel, kernel_inside, kernel_outside
from virtualdepth.maths._products import gram, times
from virtualdepth.maths.jacobi import (
    MAX_RESIDUAL,
    exact_basis,
    precondition_in_basis,
    predicted_rows,
    sweep,
    sweep_async,
)

DEPTHS = [1.5, 2.0, 3.0, 8.0, 9.0, math.inf]


def truth(weight: Tensor, grad: Tensor, depth: float) -> Tensor:
    return torch.from_numpy(preconditioned(np.asarray(weight), np.asarray(grad), depth))


def truth_of_depth_two(weight: Tensor, grad: Tensor) -> Tensor:
    """[W W^T]^{1/2} G + G [W^T W]^{1/2}, which is safe at equal singular values too."""
    u, sigma, vh = np.linalg.svd(np.asarray(weight), full_matrices=False)
    g = np.asarray(grad)
    return torch.from_numpy((u * sigma) @ u.T @ g + g @ (vh.T * sigma) @ vh)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(5, 3), (384, 8), (401, 20), (2, 5, 3), (2, 387, 3)], ids=str)
def test_gram_is_the_product(shape: tuple[int, ...]) -> None:
    matrix = gaussian(*shape)
    torch.testing.assert_close(gram(matrix), matrix @ matrix.mT, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_times_adds(batch: tuple[int, ...]) -> None:
    left, right, plus = gaussian(*batch, 3, 4), gaussian(*batch, 4, 5), gaussian(*batch, 3, 5)
    expected = left @ right + plus
    torch.testing.assert_close(times(left, right, plus=plus), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("depth", [1.0, *DEPTHS])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_kernel_in_two_parts(depth: float, scaled: bool) -> None:
    sigma = torch.tensor([[3.0, 1.0, 1.0, 1e-3, 0.0]], dtype=torch.float64)
    scale = torch.tensor([[2.0, 1.0, 0.5, 3.0, 1.0]], dtype=torch.float64) if scaled else None
    rows, columns = sigma.unsqueeze(-1), sigma.unsqueeze(-2)
    at_zero = depth_kernel(rows, torch.zeros_like(rows), depth)
    expected = depth_kernel(rows, columns, depth) - at_zero
    if scale is not None:
        expected = expected * scale.unsqueeze(-2)
    found = kernel_inside(sigma, depth, scale)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(kernel_outside(rows, depth), at_zero, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", [(4, 4), (3, 7)], ids=str)
def test_an_exact_basis_gives_the_rule(depth: float, shape: tuple[int, int]) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    gradient, step = precondition_in_basis(exact_basis(weight), grad, depth)
    expected = truth(weight, grad, depth)
    assert error(gradient.direction, expected) < 1e-12
    assert error(exact_basis(weight).left @ step, expected) < 1e-12
    u, sigma, vh = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(gradient.singular_values, sigma)
    torch.testing.assert_close(gradient.slopes, ((u.mT @ grad) * vh).sum(-1))


@pytest.mark.parametrize("rank", [0, 2])
def test_an_exact_basis_of_low_rank(rank: int) -> None:
    sigma = torch.tensor([2.0, 0.5, 0.0, 0.0], dtype=torch.float64) * (rank > 0)
    weight, grad = torch.diag(sigma), gaussian(4, 4, seed=2)
    found = precondition_in_basis(exact_basis(weight), grad, 3.0)[0].direction
    expected = truth(weight, grad, 3.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(st.floats(-2, 2), st.floats(-2, 2), st.sampled_from([(4, 4), (3, 6), (2, 3, 6)]))
@settings(max_examples=25, deadline=None)
def test_a_move_in_the_plane_of_w_and_p_takes_no_product(
    alpha: float, beta: float, shape: tuple[int, ...]
) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    basis = exact_basis(weight)
    gradient, step = precondition_in_basis(basis, grad, 3.0)
    z = gaussian(shape[-1], seed=3)
    moved = alpha * weight + beta * gradient.direction
    found = predicted_rows(basis.rows, step, weight @ z, gradient.direction @ z, moved @ z)
    torch.testing.assert_close(found, basis.left.mT @ moved, rtol=1e-8, atol=1e-8)


SPECTRA = {
    "spread": torch.linspace(1, 0.05, 24, dtype=torch.float64),
    "clusters": torch.cat([torch.ones(12), torch.full((12,), 0.3)]).double()
    + 1e-4 * torch.arange(24, dtype=torch.float64),
    "decades": torch.logspace(0, -3, 24, dtype=torch.float64),
}


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("shape", [(24, 24), (24, 60)], ids=str)
@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-3, 3e-3])
@pytest.mark.parametrize("depth", [2.0, 3.0, 8.0])
def test_a_turned_basis_gives_the_rule_or_says_that_it_does_not(
    kind: str, shape: tuple[int, int], size: float, depth: float
) -> None:
    before = with_spectrum(shape, SPECTRA[kind], seed=1)
    change = gaussian(*shape, seed=2)
    weight = before + size * change / change.norm() * before.norm()
    grad = gaussian(*shape, seed=3)
    basis = exact_basis(before)
    expected = truth(weight, grad, depth)
    rows = basis.left.mT @ weight
    found = sweep(basis.left, rows, depth)
    blind = sweep_async(basis.left, rows, depth)
    assert found is not None or size > 1e-6
    for turned in (found, blind):
        if turned is None or not float(turned.residual) <= MAX_RESIDUAL:
            continue
        assert error(precondition_in_basis(turned.basis, grad, depth)[0].direction, expected) < 2e-3
        torch.testing.assert_close(turned.basis.left @ turned.basis.rows, weight, rtol=0, atol=1e-3)
        identity = torch.eye(24, dtype=torch.float64)
        assert error(turned.basis.left.mT @ turned.basis.left, identity) < 1e-3


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
    before, change = with_spectrum((24, 24), SPECTRA["spread"], seed=1), gaussian(24, 24, seed=2)
    weight = before + 1e-3 * change / change.norm() * before.norm()
    basis = exact_basis(before)
    once = sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert once is not None
    again = sweep(once.basis.left, once.basis.rows, 3.0)
    assert again is not None
    left_over = [
        error(each.basis.rows @ each.basis.rows.mT, torch.diag(each.basis.lengths.square()))
        for each in (once, again)
    ]
    assert left_over[1] < 0.1 * left_over[0]


def test_matrices_of_a_batch_turn_each_for_itself() -> None:
    before = torch.stack([with_spectrum((24, 30), SPECTRA[kind], seed=1) for kind in SPECTRA])
    weight = before + 1e-5 * gaussian(3, 24, 30)
    basis = exact_basis(before)
    together = sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert together is not None
    for number in range(3):
        alone = sweep(basis.left[number], basis.left[number].mT @ weight[number], 3.0)
        assert alone is not None
        assert error(together.basis.rows[number], alone.basis.rows) < 1e-3


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_polar_factor_gives_the_rule_of_depth_two(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight, grad = gaussian(*shape, seed=1, dtype=dtype), gaussian(*shape, seed=2, dtype=dtype)
    found = polar_gradient(weight, grad, 2.0).direction
    assert found.dtype == dtype
    pairs = zip(*(x.double().reshape(-1, *shape[-2:]) for x in (found, weight, grad)), strict=True)
    for direction, w, g in pairs:
        assert error(direction, truth_of_depth_two(w, g)) < 1000 * torch.finfo(dtype).eps


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=6), st.integers(-6, 6))
@settings(max_examples=30, deadline=None)
def test_the_polar_factor_of_any_spectrum(exponents: list[float], scale: int) -> None:
    """Rank-deficient ones too: what is too small to resolve is small."""
    sigma = (
        10.0**scale
        * torch.cat([torch.ones(1), 10.0 ** torch.tensor(exponents), torch.zeros(1)]).double()
    )
    size = len(sigma)
    weight = orthonormal(size, size, seed=1) * sigma @ orthonormal(size, size, seed=2).T
    grad = gaussian(size, size, seed=3)
    found = polar_gradient(weight, grad, 2.0).direction
    expected = truth_of_depth_two(weight, grad)
    assert float((found - expected).norm()) < 1e-7 * float(sigma[0]) * float(grad.norm())


def test_the_polar_factor_of_nothing() -> None:
    nothing = torch.zeros(3, 4)
    assert torch.equal(polar_gradient(nothing, torch.ones(3, 4), 2.0).direction, nothing)


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-25, 1e-18, 1e-12, 1e12, 1e15])
@pytest.mark.parametrize("depth", [2.0, 3.0, math.inf])
def test_a_basis_of_any_scale(scale: float, depth: float) -> None:
    """The smallest do not move, and nothing becomes infinite."""
    weight = with_spectrum((6, 8), torch.linspace(1, 0.3, 6, dtype=torch.float64)).float() * scale
    grad = gaussian(6, 8, dtype=torch.float32)
    basis = exact_basis(weight)
    for each in (basis, sweep_async(basis.left, basis.rows, depth).basis):
        found = precondition_in_basis(each, grad, depth)[0].direction
        expected = truth(weight.double(), grad.double(), depth)
        if scale > 1e-19:
            assert error(found.double(), expected) < 1e-5
        elif torch.isfinite(each.rows).all():
            assert torch.equal(found, torch.zeros_like(found))
