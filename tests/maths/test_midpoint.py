"""A step of the flow under a frozen gradient, against explicit factors and by its order."""

import math

import pytest
import torch
from tests.maths.matrices import SHAPES, gaussian, with_spectrum
from torch import Tensor

from virtualdepth import balanced_factors, end_to_end_product, precondition
from virtualdepth.maths import midpoint_step, preconditioner
from virtualdepth.maths._reference import factor_gradients_literally

CASES = [shape for shape in SHAPES if max(shape) < 40]


def step(weight: Tensor, grad: Tensor, length: float, depth: float) -> Tensor:
    return midpoint_step(weight, preconditioner(weight, depth), grad, length, depth)


@pytest.mark.parametrize("depth", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", CASES)
def test_integer_depth_moves_balanced_factors(shape: tuple[int, int], depth: int) -> None:
    weight, grad, length = gaussian(*shape, seed=1), gaussian(*shape, seed=2), 0.03
    factors = balanced_factors(weight, depth)
    first = factor_gradients_literally(factors, grad)
    half_way = [f - length / 2 * slope for f, slope in zip(factors, first, strict=True)]
    turned = factor_gradients_literally(half_way, grad)
    moved = end_to_end_product([f - length * v for f, v in zip(factors, turned, strict=True)])
    found = step(weight, grad, length, float(depth))
    torch.testing.assert_close(found, weight - moved, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [1, 1.5, math.pi, 9, math.inf])
@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2)])
def test_other_depths_move_the_matrix(shape: tuple[int, int], depth: float) -> None:
    weight, grad, length = gaussian(*shape, seed=3), gaussian(*shape, seed=4), 0.03
    half_way = weight - length / 2 * precondition(weight, grad, depth)
    expected = length * precondition(half_way, grad, depth)
    found = step(weight, grad, length, float(depth))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [2.0, 2.5, 3.0, 4.0])
def test_second_order_in_a_frozen_gradient(depth: float) -> None:
    grad = gaussian(3, 3, seed=3)
    weight = gaussian(3, 3, seed=4) + 4 * torch.eye(3, dtype=torch.float64)

    def end(steps: int) -> Tensor:
        point = weight
        for _ in range(steps):
            point = point - step(point, grad, 0.02 / steps, depth)
        return point

    fine = end(64)
    errors = [float((end(steps) - fine).norm()) for steps in (2, 4)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("depth", [2.0, 2.5, 3.0])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_a_batch_is_its_matrices(shape: tuple[int, int], depth: float) -> None:
    weights, grads = gaussian(2, *shape, seed=5), gaussian(2, *shape, seed=6)
    together = step(weights, grads, 0.02, depth)
    for found, weight, grad in zip(together, weights, grads, strict=True):
        torch.testing.assert_close(found, step(weight, grad, 0.02, depth), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [2.0, 3.0, 4.0])
def test_rounding_of_large_singular_values_leaves_small_ones_alone(depth: float) -> None:
    # in float32 the entries of W round by 4e-6, the smallest singular value by 1e-9
    sigma = torch.tensor([50.0, 20.0, 1e-2], dtype=torch.float64)
    weight = with_spectrum((3, 3), sigma, seed=7)
    u, _, vh = torch.linalg.svd(weight)
    still = step(weight.float(), weight.float(), 0.0, depth).double()
    assert abs(float(u[:, 2] @ still @ vh[2])) < 4e-9
