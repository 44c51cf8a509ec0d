"""Step scales by hand; relative changes against the definition and the singular values' own."""

import math

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth.maths import (
    preconditioned_gradient,
    preconditioner,
    relative_change,
    relative_speed,
    squared_preconditioned_norm,
    unit_scale,
)

SHAPES = [(4, 4), (3, 5), (5, 3), (1, 4)]


def literally(weight: Tensor, step: Tensor) -> Tensor:
    """Of each singular value, the norm of what is left of the step from it on."""
    u, sigma, vh = torch.linalg.svd(weight)
    norms = [(u[:, r:].T @ step @ vh[r:].T).norm() for r in range(len(sigma))]
    return torch.stack(norms) / (sigma + 1e-2 * sigma[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_definition(shape: tuple[int, int]) -> None:
    weight, step = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    found = relative_change(preconditioner(weight, 3.0), step)
    torch.testing.assert_close(found, literally(weight, step).max(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_bounds_what_a_small_step_changes(shape: tuple[int, int]) -> None:
    weight, step = gaussian(*shape, seed=1), 1e-6 * gaussian(*shape, seed=2)
    before, after = torch.linalg.svdvals(weight), torch.linalg.svdvals(weight + step)
    change = ((after - before).abs() / (before + 1e-2 * before[0])).max()
    assert float(change) <= float(relative_change(preconditioner(weight, 3.0), step)) * (1 + 1e-4)


def test_small_singular_values_count_as_a_block() -> None:
    # diag(1, 0, ..., 0) plus a step without a diagonal, of singular values .01 among the small ones
    weight, step = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    weight[0, 0] = 1
    step[1:, 1:] = 0.01 * torch.eye(4).roll(1, 0)
    found = relative_change(preconditioner(weight, 3.0), step)
    assert float(torch.linalg.svdvals(weight + step)[1]) == pytest.approx(0.01)
    torch.testing.assert_close(found, torch.tensor(2.0, dtype=torch.float64))  # .02 / 1e-2


@pytest.mark.parametrize("shape", SHAPES)
def test_each_by_itself(shape: tuple[int, int]) -> None:
    weight, step = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    u, sigma, vh = torch.linalg.svd(weight)
    own = torch.stack([(u[:, r] @ step @ vh[r]).abs() for r in range(len(sigma))])
    found = relative_change(preconditioner(weight, 3.0), step, together=False)
    expected = (own / (sigma + 1e-2 * sigma[0])).max()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_relative_change_of_each_matrix_of_a_batch() -> None:
    weights = torch.eye(2, dtype=torch.float64) * torch.tensor([1.0, 10.0]).view(2, 1, 1)
    found = relative_change(preconditioner(weights, 2.0), torch.ones_like(weights))
    # all four entries, over 1.01 times the larger singular value, or the last, over the smaller
    torch.testing.assert_close(found, torch.tensor([2, 0.2], dtype=torch.float64) / 1.01)


def test_a_matrix_of_zeros_that_stands_still_does_not_change() -> None:
    zero = torch.zeros(3, 2)
    assert float(relative_change(preconditioner(zero, 2.0), zero)) == 0
    assert float(relative_change(preconditioner(zero, 2.0), torch.ones(3, 2))) == float("inf")


def test_a_step_that_is_not_finite_is_within_no_cap() -> None:
    step = torch.full((2, 2), float("nan"))
    assert not float(relative_change(preconditioner(torch.eye(2), 2.0), step)) <= 1e9


@pytest.mark.parametrize(("lr", "scale"), [(0.1, 1 / 8), (1.0, 0.05 / 2)], ids=["stable", "cap"])
def test_unit_scale_is_the_smaller_of_two_bounds(lr: float, scale: float) -> None:
    # sigma = 4, 1 at depth 2: the largest eigenvalue is 2 * 4, the largest relative speed 2
    found = preconditioned_gradient(torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2), 2.0)
    assert float(unit_scale(found, 2.0, lr, cap=0.05)) == pytest.approx(scale)


def test_unit_scale_of_zeros_and_of_infinite_depth() -> None:
    zero = preconditioned_gradient(torch.zeros(2, 2), torch.eye(2), 2.0)
    assert float(unit_scale(zero, 2.0, lr=0.1, cap=0.05)) == 0
    found = preconditioned_gradient(torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2), math.inf)
    assert float(unit_scale(found, math.inf, lr=1e-3, cap=0.05)) == pytest.approx(1 / 16)


def test_relative_speed_leaves_out_negligible_values_below_depth_two() -> None:
    sigma, slopes = torch.tensor([4.0, 1.0, 1e-3]), torch.tensor([-1.0, 1.0, 1.0])
    assert float(relative_speed(sigma, slopes, 2.0)) == pytest.approx(2)  # 2 sigma / sigma
    assert float(relative_speed(sigma, slopes, 1.5)) == pytest.approx(1.5)  # 1.5 sigma^{-1/3}


def test_squared_norm_by_hand() -> None:
    grad = torch.ones(1, 1)
    found = preconditioned_gradient(4 * grad, grad, 2.0)
    assert float(squared_preconditioned_norm(grad, found)) == pytest.approx(8)  # 2 * 4
