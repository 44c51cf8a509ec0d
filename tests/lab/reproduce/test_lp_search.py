"""The search over learning rates, on problems whose best rate is known."""

import math
from itertools import groupby, pairwise

import pytest
import torch
from tests.lab.reproduce.lp import problem

from virtualdepth_lab.reproduce.lp_regression.methods import rule
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.lp_regression.rivals import barzilai_borwein, hits, lbfgs
from virtualdepth_lab.reproduce.lp_regression.search import (
    Trace,
    checkpoints,
    descend,
    rate_of,
    search,
)
from virtualdepth_lab.reproduce.lp_regression.toy import (
    RATES,
    starts,
    steps_to_converge,
    two_samples,
)

ZERO = torch.zeros(1, 3, dtype=torch.float64)


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
    data, start = line(1 / rate_of(best)), torch.zeros(1, 1, dtype=torch.float64)
    trace = search(data, start, {"a": (rule(1), range(-2, 3))}, 3, [1e-9], lambda _: None)["a"]
    assert trace.exponents[trace.winner] == trace.exponents[trace.steadiest] == best
    assert not trace.at_edge()
    assert list(trace.exponents) == list(range(trace.exponents[0], trace.exponents[-1] + 1))
    assert trace.iterations(0) == 1
    assert trace.curves.shape == (4, len(trace.exponents))


def test_a_grid_is_not_widened_for_ever() -> None:
    data = line(1 / rate_of(60))
    trace = search(data, torch.zeros(1, 1).double(), {"a": (rule(1), range(3))}, 2, [], print)["a"]
    assert len(trace.exponents) == 3 + 6 * 4
    assert trace.at_edge()


def test_losses_of_a_run_by_hand() -> None:
    data, targets = line(1.0), [0.2, 0.02, 1e-9]
    runs = rule(1)(torch.zeros(1, 1).double(), torch.tensor([0.5, 2.5], dtype=torch.float64))
    [(best, found, curves)] = descend(data, [runs], 4, targets, lambda _: None)
    # w - 1 is halved, or taken -1.5 times, at each step
    expected = torch.tensor([[0.5**step, (-1.5) ** step] for step in range(5)]).double()
    torch.testing.assert_close(curves, expected.square() / 2)
    torch.testing.assert_close(best, torch.tensor([0.5**8 / 2, 0.5], dtype=torch.float64))
    assert found.tolist() == [[1, -1], [3, -1], [-1, -1]]


def test_a_run_that_diverges_after_its_best_is_not_the_steadiest() -> None:
    nan = math.nan
    trace = Trace(
        exponents=(0, 1, 2),
        best=torch.tensor([0.3, 0.2, 0.1]),
        hits=torch.tensor([[-1, 7, 4]]),
        curves=torch.tensor([[1.0, 1.0, 1.0], [0.3, 0.25, nan]]),
    )
    assert (trace.winner, trace.steadiest) == (2, 1)
    assert trace.iterations(0) == 4
    assert trace.at_edge()


def test_checkpoints() -> None:
    for steps in (1, 7, 200, 20_000):
        shown = checkpoints(steps)
        assert shown[0] == 0
        assert shown[-1] == steps
        assert shown == sorted(set(shown))
    assert len(checkpoints(20_000)) < 200


@pytest.mark.parametrize("power", [2, 4])
def test_methods_without_a_rate_find_the_minimum(power: int) -> None:
    data = problem(power)
    _, smallest = data.solve()
    for losses in (
        barzilai_borwein(data, ZERO + 0.1, 300),
        barzilai_borwein(data, ZERO + 0.1, 300, long=True),
        lbfgs(data, ZERO + 0.1, 300),
    ):
        assert losses[0] == data.objective((ZERO + 0.1).unsqueeze(0))[1].item()
        assert min(losses) == pytest.approx(smallest, rel=1e-8)
        assert len(losses) <= 301


@pytest.mark.parametrize("long", [False, True])
def test_no_loss_exceeds_the_ten_before(long: bool) -> None:
    evaluations = barzilai_borwein(problem(4), ZERO + 3, 200, long=long)
    losses = [loss for loss, _ in groupby(evaluations)]  # a refused point leaves the loss as it was
    for index in range(10, len(losses)):
        assert losses[index] <= max(losses[index - 10 : index])
    assert any(b > a for a, b in pairwise(losses))  # though one may rise


def test_hits() -> None:
    assert list(hits([3.0, 1.0, 2.0, 0.5], [3.0, 1.5, 0.5, 0.1])) == [0, 1, 3, None]


@pytest.mark.parametrize(("power", "depth"), [(2, 1), (2, 3), (4, 2)])
def test_toy_by_hand(power: int, depth: int) -> None:
    [found, *others] = steps_to_converge(two_samples(power, 3.0, 0.5), depth, starts([0, 1]))
    counts = {}
    for rate in RATES:
        w = [1e-2, 1e-2]
        for step in range(400):
            errors = [w[0] - 3.0, w[1] - 0.5]
            if max(map(abs, errors)) > 1e20:
                break
            loss = sum(error**power for error in errors) / power
            if loss <= 1e-6:
                counts[rate] = step
                break
            g = [error ** (power - 1) for error in errors]
            square, inner = w[0] ** 2 + w[1] ** 2, w[0] * g[0] + w[1] * g[1]
            gain = square ** (1 - 1 / depth)
            w = [
                a - rate * gain * (b + (depth - 1) * inner * a / square)
                for a, b in zip(w, g, strict=True)
            ]
    assert found is not None
    assert found[0] == min(counts.values())
    assert counts[found[1]] == found[0]
    assert len(others) == 2
    assert None not in others
