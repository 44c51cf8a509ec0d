"""The adaptive flow against fine explicit runs and against an independent tight integration."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from virtualdepth.maths import balanced_factors, end_to_end_product
from virtualdepth.maths._reference import factor_gradients_literally, precondition_literally
from virtualdepth.theory import integrate_flow

SHAPES = [(6, 6), (4, 6), (6, 4), (1, 5)]


def regression(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A target and a start with some way between them."""
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    start = 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return target, start


def half_square(target: Tensor):
    return lambda weight: (weight - target, (weight - target).square().sum() / 2)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def explicit_run(target: Tensor, start: Tensor, depth: int, time: float, steps: int) -> Tensor:
    factors = balanced_factors(start, depth)
    for _ in range(steps):
        grads = factor_gradients_literally(factors, end_to_end_product(factors) - target)
        factors = [f - time / steps * g for f, g in zip(factors, grads, strict=True)]
    return end_to_end_product(factors)


def tight(target: Tensor, start: Tensor, depth: int, time: float) -> Tensor:
    """Integrate dW/dt = -P_W(G) with the sum over j written literally, for a square full-rank W."""

    def velocity(_: float, state):
        weight = torch.from_numpy(state).view_as(target)
        return -precondition_literally(weight, weight - target, depth).flatten().numpy()

    end = solve_ivp(velocity, (0, time), start.flatten().numpy(), "DOP853", rtol=1e-7, atol=1e-8)
    return torch.from_numpy(end.y[:, -1].copy()).view_as(target)


@pytest.mark.parametrize(("shape", "depth"), [((4, 5), 1), ((4, 5), 2), ((5, 4), 3), ((1, 5), 4)])
def test_limit_of_explicit_runs(shape: tuple[int, int], depth: int) -> None:
    target, start = regression(shape)
    end = integrate_flow(half_square(target), start, depth, 1.0, rtol=1e-7)
    coarse, fine = (explicit_run(target, start, depth, 1.0, steps=steps) for steps in (1000, 2000))
    # gradient descent is off by a multiple of its learning rate: extrapolate to rate 0
    assert relative(end.weight, 2 * fine - coarse) < 1e-5
    assert relative(end.weight, fine) < 0.6 * relative(end.weight, coarse)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_tight_integration(depth: int) -> None:
    target, start = regression((6, 6))
    end = integrate_flow(half_square(target), start, depth, 1.5)
    assert end.finished
    assert end.time == 1.5
    assert relative(end.weight, tight(target, start, depth, 1.5)) < 1e-3
    assert end.loss == pytest.approx(float((end.weight - target).square().sum() / 2), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_matrix_and_factors_agree(shape: tuple[int, int]) -> None:
    # 3 + 1e-9 is no integer: W itself is integrated
    target, start = regression(shape)
    layers, matrix = (
        integrate_flow(half_square(target), start, depth, 1.5, rtol=1e-6).weight
        for depth in (3, 3 + 1e-9)
    )
    assert relative(matrix, layers) < 1e-5


def test_infinite_depth_is_the_limit() -> None:
    target, start = regression((5, 5))
    limit = integrate_flow(half_square(target), start, math.inf, 1.0, rtol=1e-6).weight
    gaps = [
        relative(integrate_flow(half_square(target), start, n, 1.0 / n, rtol=1e-6).weight, limit)
        for n in (50.5, 101.0, 202.5)
    ]
    assert gaps[1] / gaps[0] == pytest.approx(0.5, abs=0.05)
    assert gaps[2] / gaps[1] == pytest.approx(0.5, abs=0.05)


def test_small_loss_is_reached_in_the_tail() -> None:
    # one slow direction: the loss falls over seven decades
    scales = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)
    target, start = regression((3, 3))

    def objective(weight: Tensor) -> tuple[Tensor, Tensor]:
        residual = (weight - target) * scales
        return residual * scales, residual.square().sum() / 2

    end = integrate_flow(objective, start, 3, stop_loss=1e-7)
    assert end.finished
    assert end.loss <= 1e-7
    assert relative(end.weight, target) < 1e-2


def test_gradient_by_autograd() -> None:
    target, start = regression((4, 4))
    objective = torch.func.grad_and_value(lambda w: (w - target).square().sum() / 2)
    found = integrate_flow(objective, start, 2, 1.0).weight
    expected = integrate_flow(half_square(target), start, 2, 1.0).weight
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_float32_stays_float32() -> None:
    target, start = regression((6, 6))
    end = integrate_flow(half_square(target.float()), start.float(), 3, 1.5)
    assert end.weight.dtype == torch.float32
    assert relative(end.weight.double(), tight(target, start, 3, 1.5)) < 1e-3


def test_unfinished() -> None:
    target, start = regression((4, 4))
    end = integrate_flow(half_square(target), start, 2, stop_loss=1e-12, max_evaluations=30)
    assert not end.finished
    assert 30 <= end.evaluations < 40


def test_start_below_stop_loss() -> None:
    target, start = regression((4, 4))
    end = integrate_flow(half_square(target), start, 2, stop_loss=1e9)
    assert end.finished
    assert end.time == 0
    assert end.loss == float(half_square(target)(start)[1])  # of the start itself
    torch.testing.assert_close(end.weight, start, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": 0.0}, "time: expected"),
        ({"time": math.nan}, "time: expected"),
        ({}, "stop_loss: expected"),
        ({"stop_loss": -1.0}, "stop_loss: expected"),
        ({"time": 1.0, "rtol": 0.0}, "rtol: expected"),
        ({"time": 1.0, "weight": torch.ones(3)}, "weight: expected"),
        ({"time": 1.0, "weight": torch.full((2, 2), math.nan)}, "weight: expected"),
        ({"time": 1.0, "depth": 0.5}, "depth: expected"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    given = {"weight": torch.eye(2), "depth": 2.0, **arguments}
    with pytest.raises(ValueError, match=message):
        integrate_flow(half_square(torch.ones(2, 2)), **given)


def test_divergence_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="objective: expected a flow"):
        integrate_flow(
            lambda weight: (-(weight**3), -(weight**4).sum() / 4), 2 * torch.eye(2), 2, 100.0
        )


@pytest.mark.parametrize("depth", [1, 2, 2.5])
@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_a_start_that_is_not_finite_is_an_error(depth: float, what: str) -> None:
    """Not a search without end for a first step."""
    factors = (math.nan, 1.0) if what == "gradient" else (1.0, math.nan)
    with pytest.raises(FloatingPointError, match="objective: expected a flow"):
        integrate_flow(
            lambda w: (factors[0] * w, factors[1] * w.square().sum()), torch.eye(3), depth, 1.0
        )


@pytest.mark.parametrize("depth", [2, 2.5])
def test_zeros_rest(depth: float) -> None:
    target, _ = regression((3, 4))
    end = integrate_flow(half_square(target), torch.zeros_like(target), depth, 5.0)
    assert (end.finished, end.time) == (True, 5.0)
    assert not end.weight.any()
    never = integrate_flow(half_square(target), torch.zeros_like(target), depth, stop_loss=1e-3)
    assert not never.finished


@pytest.mark.parametrize("depth", [1, 2, 2.5])
def test_a_minimum_rests(depth: float) -> None:
    target, _ = regression((4, 4))
    end = integrate_flow(half_square(target), target.clone(), depth, 1.0)
    assert (end.finished, end.time) == (True, 1.0)
    torch.testing.assert_close(end.weight, target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [1, 2, 2.5])
def test_it_stays_at_the_minimum_that_it_found(depth: float, dtype: torch.dtype) -> None:
    """However small the loss: beyond the gradient's rounding no step can be judged."""
    target = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=dtype))
    start = 0.1 * torch.eye(3, dtype=dtype)
    end = integrate_flow(half_square(target), start, depth, 100.0, max_evaluations=3000)
    assert end.finished
    assert end.time == 100.0
    assert relative(end.weight, target) < 10 * torch.finfo(dtype).eps


@pytest.mark.parametrize("offset", [-1.0, 0.01, 1.0])
def test_a_loss_may_be_negative(offset: float) -> None:
    # <G, W>: at depth 1 W falls along G
    grad, start = regression((3, 4))
    end = integrate_flow(lambda w: (grad, (grad * w).sum() + offset), start, 1, 2.0)
    torch.testing.assert_close(end.weight, start - 2 * grad, rtol=0, atol=1e-10)
