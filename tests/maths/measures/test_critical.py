"""The distance from a critical point against scipy, optimal solutions, and explicit layers."""

import math

import cvxpy
import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from virtualdepth.maths import balanced_factors, margin_residual, precondition


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, math.inf])
@pytest.mark.parametrize("count", [1, 3, 12, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_nonnegative_least_squares_of_scipy(depth: float, count: int, seed: int) -> None:
    weight, gradients = normal(seed, 3, 4), normal(seed + 9, count, 3, 4)
    direction = weight / weight.norm()
    cone = [precondition(direction, grad, depth).flatten() for grad in gradients]
    expected = nnls(torch.stack(cone, 1).numpy(), direction.flatten().numpy())[1]
    found = margin_residual(weight, gradients, depth)
    assert float(found) == pytest.approx(expected, abs=1e-10)
    assert 0 <= float(found) <= 1 + 1e-12
    scaled = 1e30 * gradients * torch.arange(1, count + 1).view(-1, 1, 1)
    assert float(margin_residual(1e-30 * weight, scaled, depth)) == pytest.approx(
        expected, abs=1e-10
    )


@pytest.mark.parametrize("structure", ["rows", "columns", "diagonal", "circulant"])
def test_structures(structure: str) -> None:
    weight, gradients = normal(2, 3, 5), normal(3, 4, 3, 5)
    direction = weight / weight.norm()
    cone = [precondition(direction, g, 2, structure=structure).flatten() for g in gradients]
    expected = nnls(torch.stack(cone, 1).numpy(), direction.flatten().numpy())[1]
    found = margin_residual(weight, gradients, 2, structure=structure)
    assert float(found) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_largest_margin_is_a_critical_point(depth: int) -> None:
    """Of the Frobenius norm at depth 1, of the nuclear norm at 2; the other one's is none."""
    gradients = normal(5, 8, 3, 4)
    rows = gradients.flatten(1).numpy()
    ends = []
    for nuclear in (False, True):
        unknown = cvxpy.Variable((3, 4))
        size = cvxpy.normNuc(unknown) if nuclear else cvxpy.sum_squares(unknown)
        constraint = [rows @ cvxpy.vec(unknown, order="C") >= 1]
        cvxpy.Problem(cvxpy.Minimize(size), constraint).solve(solver=cvxpy.CLARABEL)
        weight = torch.from_numpy(np.array(unknown.value))
        margins = (gradients * weight).sum((-2, -1))
        ends.append(float(margin_residual(weight, gradients[margins < 1 + 1e-4], depth)))
    assert ends[depth - 1] < 1e-3
    assert ends[2 - depth] > 0.05


def test_it_vanishes_where_every_layer_is_in_the_cone_of_its_gradients() -> None:
    """W_j = sum_i c_i dm_i / dW_j for balanced layers, with the gradients chosen so."""
    weight = normal(6, 3, 3)
    u, s, vh = torch.linalg.svd(weight)
    total = (u * s ** (2 / 3 - 1)) @ vh  # the sum of c_i g_i at a critical point of three layers
    first, second, third = balanced_factors(weight, 3)
    torch.testing.assert_close((third @ second).T @ total, first, rtol=0, atol=1e-12)
    torch.testing.assert_close(third.T @ total @ first.T, second, rtol=0, atol=1e-12)
    parts = normal(7, 2, 3, 3)
    gradients = torch.stack([parts[0], parts[1], total - 0.3 * parts[0] - 2 * parts[1]])
    assert float(margin_residual(weight, gradients, 3)) < 1e-12
    assert float(margin_residual(weight, gradients[:2], 3)) > 1e-2


@pytest.mark.parametrize(
    ("weight", "gradients", "depth", "message"),
    [
        (torch.zeros(2, 3), torch.ones(1, 2, 3), 2, "weight: expected one that is not 0"),
        (torch.ones(2, 3), torch.ones(2, 3), 2, "gradients: expected"),
        (torch.ones(2, 3), torch.ones(0, 2, 3), 2, "gradients: expected"),
        (torch.ones(2, 3), torch.ones(1, 3, 2), 2, "gradients: expected"),
        (torch.ones(2, 3), torch.ones(1, 2, 3).long(), 2, "gradients: expected a dense real"),
        (torch.full((2, 3), math.nan), torch.ones(1, 2, 3), 2, "weight: expected finite"),
        (torch.ones(2, 3), torch.full((1, 2, 3), math.inf), 2, "gradients: expected finite"),
        (torch.ones(2, 3), torch.ones(1, 2, 3), 0.5, "depth: expected"),
    ],
)
def test_refusals(weight: Tensor, gradients: Tensor, depth: float, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        margin_residual(weight, gradients, depth)
