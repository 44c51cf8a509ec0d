"""The theory's velocities and descent against fine runs of an explicit network."""

import math

import pytest
import scipy.linalg
import torch
from tests.maths.matrices import gaussian, with_spectrum
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    end_to_end_product,
    guaranteed_descent,
    precondition,
    singular_value_velocity,
)
from virtualdepth.maths._reference import factor_gradients_literally

SHAPES = [(1, 4), (3, 3), (3, 5), (5, 3)]


def factor_step(weight: Tensor, grad: Tensor, depth: int, lr: float, decay: float) -> Tensor:
    """The end-to-end matrix after one step of gradient descent on balanced factors."""
    factors = balanced_factors(weight, depth)
    gradients = factor_gradients_literally(factors, grad)
    return end_to_end_product(
        [w - lr * (g + decay * w) for w, g in zip(factors, gradients, strict=True)]
    )


def velocity(weight: Tensor, grad: Tensor, depth: float, decay: float = 0.0) -> Tensor:
    u, sigma, vh = scipy.linalg.svd(weight.numpy(), full_matrices=False)
    slopes = torch.from_numpy((u * (grad.numpy() @ vh.T)).sum(0))
    return singular_value_velocity(torch.from_numpy(sigma), slopes, depth, decay)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_velocity_against_finite_differences_of_the_factors(
    shape: tuple[int, int], depth: int, decay: float
) -> None:
    k = min(shape)
    weight = with_spectrum(shape, torch.linspace(2, 0.5, k, dtype=torch.float64))
    grad = gaussian(*shape, seed=3)
    lr = 1e-5
    ahead = scipy.linalg.svdvals(factor_step(weight, grad, depth, lr, decay).numpy())
    behind = scipy.linalg.svdvals(factor_step(weight, grad, depth, -lr, decay).numpy())
    measured = torch.from_numpy((ahead - behind) / (2 * lr))
    assert torch.allclose(velocity(weight, grad, depth, decay), measured, atol=1e-6, rtol=1e-7)


@pytest.mark.parametrize("depth", [1.5, math.pi, math.inf])
def test_velocity_of_depths_without_a_network(depth: float) -> None:
    weight = with_spectrum((4, 4), torch.tensor([2.0, 1.5, 1.0, 0.5], dtype=torch.float64))
    grad = gaussian(4, 4, seed=3)
    lr = 1e-6
    direction = precondition(weight, grad, depth)
    ahead = scipy.linalg.svdvals((weight - lr * direction).numpy())
    behind = scipy.linalg.svdvals((weight + lr * direction).numpy())
    measured = torch.from_numpy((ahead - behind) / (2 * lr))
    assert torch.allclose(velocity(weight, grad, depth), measured, atol=1e-7)


def test_velocity_of_a_zero_singular_value() -> None:
    zero, slope = torch.zeros(1), torch.ones(1)
    assert singular_value_velocity(zero, slope, 1).item() == -1
    assert singular_value_velocity(zero, slope, 1.01).item() == 0
    assert singular_value_velocity(zero, slope, math.inf).item() == 0


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_descent_holds_on_the_checked_example(depth: int) -> None:
    """3 x 3, step size 1e-2: no step takes less off the loss than the lemma says."""
    target = torch.eye(3, dtype=torch.float64)
    factors = balanced_factors(target + 0.1 * gaussian(3, 3), depth)
    lr = 1e-2
    for _ in range(300):
        weight = end_to_end_product(factors)
        grad = weight - target
        smallest = torch.from_numpy(scipy.linalg.svdvals(weight.numpy()))[-1]
        promised = guaranteed_descent(smallest, grad, depth, lr)
        gradients = factor_gradients_literally(factors, grad)
        factors = [w - lr * g for w, g in zip(factors, gradients, strict=True)]
        after = end_to_end_product(factors) - target
        assert (grad.square().sum() - after.square().sum()) / 2 >= promised > 0


def test_descent_by_hand() -> None:
    grads = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]], dtype=torch.float64)
    smallest = torch.tensor([8.0, 1.0], dtype=torch.float64)
    # (.1 / 2) * 8^{4/3} * 25 and (.1 / 2) * 1 * 4
    expected = torch.tensor([20.0, 0.2], dtype=torch.float64)
    assert torch.allclose(guaranteed_descent(smallest, grads, 3, 0.1), expected, rtol=1e-12)
    assert guaranteed_descent(torch.tensor(0.0), torch.ones(2, 2), 2, 0.1) == 0


@pytest.mark.parametrize("bad", [0.5, math.nan, True, "3"])
def test_depth_is_checked(bad: object) -> None:
    with pytest.raises((TypeError, ValueError), match="depth: expected"):
        singular_value_velocity(torch.ones(1), torch.ones(1), bad)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match="depth: expected"):
        guaranteed_descent(torch.ones(1), torch.ones(1, 1), bad, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [1.5, 2, 4])
def test_descent_with_an_imbalance(depth: float) -> None:
    """The bound is at most the least eigenvalue of P_W, and a step of the rule keeps it."""
    weight, lr = with_spectrum((3, 3), torch.tensor([2.0, 0.5, 0.1], dtype=torch.float64)), 1e-2
    target = gaussian(3, 3, seed=5)
    promised = guaranteed_descent(torch.tensor(0.1).double(), weight - target, depth, lr, 0.3)
    basis = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
    columns = [precondition(weight, each, depth, imbalance=0.3).flatten() for each in basis]
    least = torch.linalg.eigvalsh(torch.stack(columns)).min()
    square = (weight - target).square().sum()
    assert 0.5 * lr / 2 * least * square < promised <= lr / 2 * least * square
    moved = weight - lr * precondition(weight, weight - target, depth, imbalance=0.3)
    assert (square - (moved - target).square().sum()) / 2 >= promised
    # no imbalance below rounding changes the bound
    tiny = guaranteed_descent(torch.tensor(0.1).double(), weight - target, depth, lr, 1e-30)
    balanced = guaranteed_descent(torch.tensor(0.1).double(), weight - target, depth, lr)
    assert tiny.item() == pytest.approx(balanced.item(), rel=1e-9)
