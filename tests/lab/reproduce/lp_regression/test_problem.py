"""Loss, gradient and minimum of l_p regression against autograd, numpy and published numbers."""

import numpy as np
import pytest
import torch
from tests.lab.reproduce.lp_regression.small import NEEDS_ETHANOL, problem
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.problem import ethanol_regression


def rows(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 1, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("power", [2, 4, 6])
def test_objective_is_the_formula_and_its_gradient(power: int) -> None:
    data, weights = problem(power), rows(4).requires_grad_()
    losses = torch.stack(
        [
            sum(abs(x @ w[0] - y) ** power for x, y in zip(data.inputs, data.targets, strict=True))
            / (power * len(data.targets))
            for w in weights
        ]
    )
    (expected,) = torch.autograd.grad(losses.sum(), weights)
    grads, found = data.objective(weights.detach())
    torch.testing.assert_close(found, losses.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-14)


def test_compressed_squares_are_the_same_loss() -> None:
    data, weights = problem(2), rows(4)
    small = data.compressed()
    assert small.inputs.shape == (4, 3)
    for ours, theirs in zip(small.objective(weights), data.objective(weights), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    assert problem(4).compressed().inputs.shape == problem(4).inputs.shape


def test_least_squares() -> None:
    data = problem(2)
    weight, smallest = data.solve()
    expected, residual, *_ = np.linalg.lstsq(data.inputs.numpy(), data.targets.numpy(), rcond=None)
    np.testing.assert_allclose(weight[0].numpy(), expected, rtol=1e-10)
    assert smallest == pytest.approx(residual.item() / (2 * len(data.targets)), rel=1e-12)


def test_fourth_powers_have_their_minimum_where_nothing_near_is_smaller() -> None:
    data = problem(4)
    weight, smallest = data.solve()
    grads, losses = data.objective(weight.unsqueeze(0))
    assert grads.abs().max() < 1e-9
    assert losses.item() == smallest
    _, near = data.objective(weight + 1e-3 * rows(20))
    assert near.min() > smallest


@NEEDS_ETHANOL
@pytest.mark.parametrize(("power", "optimum"), [(2, 0.0499931), (4, 0.0553541)])
def test_ethanol_optimum(power: int, optimum: float) -> None:
    data = ethanol_regression(None, power)
    assert data.inputs.shape == (2565, 128)
    assert data.solve()[1] == pytest.approx(optimum, abs=5e-8)
    _, zero = data.objective(torch.zeros(1, 1, 128, dtype=torch.float64))
    assert zero.item() == pytest.approx({2: 0.5, 4: 1.39250}[power], abs=5e-6)
