"""What a step does to singular values, and the midpoint, against the rule written literally."""

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import precondition
from virtualdepth.maths import end_to_end_metric, midpoint_direction, relative_change


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_relative_change(shape: tuple[int, int]) -> None:
    weight, step = gaussian(*shape, seed=1), 1e-6 * gaussian(*shape, seed=2)
    before, after = torch.linalg.svdvals(weight), torch.linalg.svdvals(weight + step)
    expected = ((after - before).abs() / (before + 1e-2 * before[0])).max()
    found = relative_change(end_to_end_metric(weight, 3.0), step)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_relative_change_of_each_matrix_of_a_batch() -> None:
    weights = torch.eye(2, dtype=torch.float64) * torch.tensor([1.0, 10.0]).view(2, 1, 1)
    found = relative_change(end_to_end_metric(weights, 2.0), torch.ones_like(weights))
    torch.testing.assert_close(found, torch.tensor([1, 0.1], dtype=torch.float64) / 1.01)


def test_a_matrix_of_zeros_that_stands_still_does_not_change() -> None:
    zero = torch.zeros(3, 2)
    assert float(relative_change(end_to_end_metric(zero, 2.0), zero)) == 0
    assert float(relative_change(end_to_end_metric(zero, 2.0), torch.ones(3, 2))) == float("inf")


def test_a_step_that_is_not_finite_is_within_no_cap() -> None:
    step = torch.full((2, 2), float("nan"))
    assert not float(relative_change(end_to_end_metric(torch.eye(2), 2.0), step)) <= 1e9


def test_midpoint_is_of_second_order_in_a_frozen_gradient() -> None:
    grad = gaussian(3, 3, seed=3)
    weight = gaussian(3, 3, seed=4) + 4 * torch.eye(3, dtype=torch.float64)

    def end(length: float, steps: int) -> Tensor:
        point = weight
        for _ in range(steps):
            direction = precondition(point, grad, 3.0)
            turned = midpoint_direction(point, grad, direction, length / steps, 3.0)
            point = point - length / steps * turned
        return point

    fine = end(0.02, 64)
    errors = [float((end(0.02, steps) - fine).norm()) for steps in (2, 4)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
