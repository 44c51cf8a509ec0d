"""The maximum-margin rerun: problems against other solvers, descents against literal formulas."""

import cvxpy
import numpy as np
import pytest
import torch
from torch import Tensor

from virtualdepth_lab.reproduce.margin.descent import (
    PER_DECADE,
    RELATIVE_STEP,
    STEP,
    follow_network,
    follow_vector,
    recorded,
)
from virtualdepth_lab.reproduce.margin.problem import (
    Separable,
    angle,
    digits_problem,
    random_problem,
)

TWO = Separable(
    name="two points",
    inputs=torch.tensor([[1.0, 0.0], [0.0, -0.5]], dtype=torch.float64),
    labels=torch.tensor([1, 0]),
)


def vector(*entries: float) -> Tensor:
    return torch.tensor([entries], dtype=torch.float64)


def signed(problem: Separable) -> Tensor:
    return (2 * problem.labels - 1).unsqueeze(1) * problem.inputs


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


def test_recorded_steps() -> None:
    assert recorded(10) == [1, 2, 3, 4, 5, 6, 8, 10]
    assert recorded(7)[0] == 1
    steps = recorded(20_000)
    assert steps[-1 - PER_DECADE] == 2000
    assert steps == sorted(set(steps))


def gradient(problem: Separable, weight: Tensor) -> Tensor:
    """Of the loss, over the loss."""
    points = signed(problem)
    margins = (points @ weight.T).squeeze(1)
    loss = torch.log1p(torch.exp(-margins)).sum()
    return -(points.T @ torch.sigmoid(-margins)).unsqueeze(0) / loss


def length(weight: Tensor, depth: int) -> float:
    norm = float(weight.norm())
    return min(STEP, RELATIVE_STEP * norm) / depth / norm ** (2 - 2 / depth)


START = torch.linspace(-0.3, 0.5, 10, dtype=torch.float64).unsqueeze(0)


@pytest.mark.parametrize("scale", [1.0, 100.0])  # steps bound by the length of w, and not
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_vector_follows_the_rule(depth: int, scale: float) -> None:
    problem = random_problem(2)
    weight, expected = scale * START, []
    for _ in range(6):
        grad, square = gradient(problem, weight), weight.square().sum()
        rule = square ** (1 - 1 / depth) * (
            grad + (depth - 1) * (weight * grad).sum() * weight / square
        )
        weight = weight - length(weight, depth) * rule
        expected.append(weight)
    found = follow_vector(problem, scale * START, depth, 6)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_network_descends_by_layers(depth: int) -> None:
    problem = random_problem(2)
    norm = float(START.norm())
    # balanced factors of a row: its direction, then numbers, each of the size norm^{1/N}
    first = norm ** (1 / depth) * START / norm
    others = [norm ** (1 / depth)] * (depth - 1)
    expected = []
    for _ in range(6):
        weight = np.prod(others) * first
        grad, lr = gradient(problem, weight), length(weight, depth)
        slope = float((grad * first).sum())
        steps = [slope * np.prod(others) / other for other in others]
        first = first - lr * np.prod(others) * grad
        others = [other - lr * step for other, step in zip(others, steps, strict=True)]
        expected.append(np.prod(others) * first)
    found = follow_network(problem, START, depth, 6)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_two_points_end_at_the_largest_margin(depth: int) -> None:
    start = vector(0.1, -0.02)  # misclassifies the second
    end = follow_vector(TWO, start, depth, 500)[-1:]
    assert float(angle(end, vector(1, 2))) < 0.02
    assert float(angle(start, vector(1, 2))) > 1
    assert TWO.margin(end) == pytest.approx(1 / 5**0.5, rel=0.02)
