"""P_W(G) in a basis of singular vectors, against the literal formula in numpy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maths.jacobi.moved import error, truth
from tests.maths.matrices import gaussian, with_spectrum

from virtualdepth.maths.jacobi import (
    exact_basis,
    precondition_in_basis,
    predicted_rows,
    sweep_async,
)

DEPTHS = [1.5, 2.0, 3.0, 8.0, 9.0, math.inf]


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
