"""L-BFGS over factors: it reaches the minimum, and stays where the flow would go."""

import math

import pytest
import torch
from torch import Tensor

from virtualdepth.data import low_rank_problem, small_start
from virtualdepth.theory import integrate_flow, minimise_over_factors


def half_square(target: Tensor):
    return lambda weight: (weight - target, (weight - target).square().sum() / 2)


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4), (1, 5)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_reaches_a_target(shape: tuple[int, int], depth: int) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    start = target + 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)
    end = minimise_over_factors(half_square(target), start, depth, stop_loss=1e-22)
    assert end.finished
    assert end.loss <= 1e-22
    torch.testing.assert_close(end.weight, target, rtol=0, atol=2e-11)
    assert end.weight.dtype == start.dtype


@pytest.mark.parametrize("depth", [2, 3])
def test_stays_where_gradients_go(depth: int) -> None:
    """What is zero in start and gradients stays zero: no step leaves the span of gradients."""
    block = torch.zeros(6, 6, dtype=torch.float64)
    block[:3, :2] = 1
    generator = torch.Generator().manual_seed(2)
    start = block * torch.randn(6, 6, generator=generator, dtype=torch.float64)
    target = block * torch.randn(6, 6, generator=generator, dtype=torch.float64)
    end = minimise_over_factors(half_square(target), start, depth, stop_loss=1e-12)
    assert end.finished
    assert float((end.weight * (1 - block)).abs().max()) < 1e-12


@pytest.mark.parametrize("depth", [2, 3])
def test_ends_near_the_end_of_the_flow(depth: int) -> None:
    """In fewer gradients, and with the same bias to low rank."""
    problem = low_rank_problem(30, 2, 400, seed=3)
    start = small_start(30, depth, 1e-3, seed=4)
    first = float(problem.objective(start)[1])
    flow = integrate_flow(problem.objective, start, depth, stop_loss=1e-6)
    head = integrate_flow(problem.objective, start, depth, stop_loss=0.01 * first)
    end = minimise_over_factors(problem.objective, head.weight, depth, stop_loss=1e-6)
    assert flow.finished
    assert end.finished
    assert end.evaluations < 0.5 * (flow.evaluations - head.evaluations)
    assert float((end.weight - flow.weight).norm() / flow.weight.norm()) < 1e-2
    assert problem.error(end.weight) < 1.5 * problem.error(flow.weight) + 1e-6


def test_gives_up() -> None:
    target = torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    end = minimise_over_factors(
        half_square(target), 0.1 * target, 3, stop_loss=1e-20, max_evaluations=4
    )
    assert not end.finished
    assert end.evaluations < 10
    assert end.loss == pytest.approx(float(half_square(target)(end.weight)[1]), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 2.5}, ValueError, "depth: expected an integer >= 1, as factors have, but got 2"),
        ({"depth": math.inf}, ValueError, "depth: expected an integer >= 1"),
        ({"depth": 0.5}, ValueError, "depth: expected"),
        ({"stop_loss": -1.0}, ValueError, "stop_loss: expected a number >= 0 but got -1"),
        ({"stop_loss": math.nan}, ValueError, "stop_loss: expected a number >= 0 but got nan"),
        ({"weight": torch.ones(3)}, ValueError, r"weight: expected a finite matrix \(m, n\)"),
        ({"weight": torch.full((2, 2), math.nan)}, ValueError, "weight: expected a finite matrix"),
        (
            {"objective": lambda w: (w, w.sum() * math.nan)},
            FloatingPointError,
            "objective: expected a finite loss but got nan",
        ),
    ],
)
def test_bad_arguments(arguments, error: type[Exception], message: str) -> None:
    good = {"objective": half_square(torch.eye(2)), "weight": torch.eye(2), "depth": 2}
    with pytest.raises(error, match=message):
        minimise_over_factors(**{**good, "stop_loss": 0.1, **arguments})
