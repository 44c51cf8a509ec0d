"""Runs side by side, and the search over their learning rates, where the best rate is known."""

import math

import pytest
import torch

from virtualdepth_lab.reproduce.lp_regression.methods import RuleRuns
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.lp_regression.training import (
    LOSSES,
    Run,
    begin,
    best_rates,
    checkpoints,
    train,
)
from virtualdepth_lab.reproduce.search import at_edge, best_of, quarter_decade

ZERO = torch.zeros(1, 1, dtype=torch.float64)


def sgd(weights: torch.Tensor, rates: torch.Tensor) -> RuleRuns:
    return RuleRuns(weights, rates, depth=1)


def line(curvature: float) -> LpRegression:
    """One weight, loss curvature / 2 * (w - 1)^2: gradient descent is best at 1 / curvature."""
    root = math.sqrt(curvature)
    return LpRegression(
        inputs=torch.tensor([[root]], dtype=torch.float64),
        targets=torch.tensor([root], dtype=torch.float64),
        power=2,
    )


@pytest.mark.parametrize("best", [-9, -2, 0, 5, 12])
def test_grid_is_widened_until_the_best_rate_is_inside(best: int) -> None:
    data = line(1 / quarter_decade(best))
    runs = best_rates(data, ZERO, {"a": (sgd, range(-2, 3))}, 3, [1e-9], lambda _: None)["a"]
    assert [best_of(runs, loss) for loss in LOSSES] == [best, best]
    assert not at_edge(runs, LOSSES)
    assert list(runs) == list(range(min(runs), max(runs) + 1))
    assert min(run.hits[0] for run in runs.values() if run.hits[0] is not None) == 1
    assert {len(run.curve) for run in runs.values()} == {4}


def test_a_grid_is_not_widened_for_ever() -> None:
    data = line(1 / quarter_decade(60))
    runs = best_rates(data, ZERO, {"a": (sgd, range(3))}, 2, [], print)["a"]
    assert len(runs) == 3 + 6 * 4
    assert at_edge(runs, LOSSES)


def test_losses_of_a_run_by_hand() -> None:
    data, targets = line(1.0), [0.2, 0.02, 1e-9]
    [found] = train(data, [begin(sgd, ZERO, [0.5, 2.5])], 4, targets, lambda _: None)
    # w - 1 is halved, or taken -1.5 times, at each step
    expected = torch.tensor([[0.5**step for step in range(5)], [1.5**step for step in range(5)]])
    curves = torch.stack([run.curve for run in found])
    torch.testing.assert_close(curves, expected.double().square() / 2)
    assert [run.best for run in found] == pytest.approx([0.5**8 / 2, 0.5])
    assert [run.hits for run in found] == [[1, 3, None], [None, None, None]]


def test_a_run_that_diverges_after_its_best_is_not_the_steadiest() -> None:
    ends = {0: (0.3, 0.3, None), 1: (0.2, 0.25, 7), 2: (0.1, math.nan, 4)}
    runs = {
        exponent: Run(best=best, hits=[hit], curve=torch.tensor([1.0, end]))
        for exponent, (best, end, hit) in ends.items()
    }
    assert [best_of(runs, loss) for loss in LOSSES] == [2, 1]
    assert at_edge(runs, LOSSES)


def test_checkpoints() -> None:
    for steps in (1, 7, 200, 20_000):
        shown = checkpoints(steps)
        assert shown[0] == 0
        assert shown[-1] == steps
        assert shown == sorted(set(shown))
    assert len(checkpoints(20_000)) < 200
