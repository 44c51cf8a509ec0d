"""Separable problems: the margin against other solvers, the loss against literal formulas."""

import cvxpy
import numpy as np
import pytest
import torch
from tests.lab.reproduce.margin.two_points import TWO, signed, vector

from virtualdepth_lab.reproduce.margin.problem import (
    Separable,
    angle,
    digits_problem,
    random_problem,
)


@pytest.mark.parametrize("problem", [random_problem(0), random_problem(5, 20, 4), digits_problem()])
def test_largest_margin_against_a_quadratic_programme(problem: Separable) -> None:
    points = signed(problem).numpy()
    w = cvxpy.Variable(points.shape[1])
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(w)), [points @ w >= 1]).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    expected = w.value / np.linalg.norm(w.value)
    found = problem.largest_margin()
    np.testing.assert_allclose(found.squeeze(0).numpy(), expected, atol=1e-6)
    # libsvm stops at a violation of 1e-10 of dual variables that reach hundreds
    assert problem.margin(found) == pytest.approx((points @ expected).min(), rel=1e-5)
    assert problem.margin(found) > 0
    assert float(problem.inputs.norm(dim=1).max()) == pytest.approx(1, abs=1e-14)


def test_largest_margin_of_two_points() -> None:
    torch.testing.assert_close(TWO.largest_margin(), vector(1, 2) / 5**0.5, rtol=0, atol=1e-9)
    assert TWO.margin(vector(3, 3)) == pytest.approx(0.5 / 2**0.5, abs=1e-14)
    assert TWO.margin(vector(1, -1)) == pytest.approx(-0.5 / 2**0.5, abs=1e-14)


@pytest.mark.parametrize("size", [1e-3, 1.0, 20.0, 300.0])
def test_log_loss_is_literal(size: float) -> None:
    problem = random_problem(1)
    weight = (size * torch.ones(1, 10, dtype=torch.float64)).requires_grad_()
    margins = (signed(problem) @ weight.T).squeeze(1)
    loss = torch.logaddexp(-margins, torch.zeros_like(margins)).sum()
    torch.testing.assert_close(problem.log_loss(weight), loss.log(), rtol=1e-12, atol=1e-12)
    found, expected = (
        torch.autograd.grad(value, weight)[0] for value in (problem.log_loss(weight), loss.log())
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_log_loss_beyond_the_smallest_numbers() -> None:
    weight = vector(1e5, 3e5).requires_grad_()  # margins 1e5 and 1.5e5: e^-1e5 is 0
    loss = TWO.log_loss(weight)
    assert loss.item() == -1e5
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], vector(-1, 0))


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-3, 1.0, 3.0])
def test_angle(turn: float) -> None:
    turned = 7 * vector(np.cos(turn), np.sin(turn))
    assert float(angle(turned, vector(2, 0))) == pytest.approx(turn, rel=1e-7)
