"""One learning rate under Lightning: against numpy, diverging, interrupted, leaving no trace."""

import itertools
import logging
import math
import signal
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning_utilities.core import rank_zero
from tests.lightning import equivalence_in_numpy

from virtualdepth.data import Problem, load_problem
from virtualdepth.networks import init
from virtualdepth.verify._results import Curve
from virtualdepth.verify._training import follow


@pytest.fixture(scope="module")
def problem() -> Problem:
    return load_problem("synthetic")


def train(problem: Problem, **options: Any) -> Curve:
    defaults: dict[str, Any] = {
        "lr": 0.1,
        "steps": 10,
        "dtype": "float64",
        "on_step": lambda: None,
        "depth": 3,
        "optimizer_depth": None,
        "init_scale": 0.3,
        "seed": 0,
    }
    return follow(problem.inputs, problem.targets, **{**defaults, **options})


@pytest.mark.parametrize(
    ("depth", "optimizer_depth", "seed"), [(2, None, 0), (3, None, 1), (3, 2, 0), (4, None, 0)]
)
def test_curve_as_written_out(
    depth: int, optimizer_depth: int | None, seed: int, problem: Problem
) -> None:
    curve = train(problem, depth=depth, optimizer_depth=optimizer_depth, seed=seed)
    start = torch.nn.Linear(12, 4, bias=False, dtype=torch.float64)
    init.balanced_(start, 0.3, generator=torch.Generator().manual_seed(seed))
    _, log = equivalence_in_numpy.run(
        start.weight.detach().numpy(),
        [4] * (depth - 1),
        problem.inputs.numpy(),
        problem.targets.numpy(),
        lr=0.1,
        steps=11,  # one more, which logs the losses after the tenth
        p=2,
        optimizer_depth=optimizer_depth or depth,
    )
    assert curve.lr == 0.1
    assert curve.time == pytest.approx([0.1 * step for step in range(11)])
    assert curve.loss_single == pytest.approx([step.loss_single for step in log], rel=1e-10)
    assert curve.loss_deep == pytest.approx([step.loss_deep for step in log], rel=1e-10)
    assert curve.gap[1:] == pytest.approx([step.gap for step in log[:10]], rel=1e-8)
    assert curve.balancedness[1:] == pytest.approx(
        [step.balancedness for step in log[:10]], rel=1e-8
    )
    # the start is factored in float64, or these would be 1e-7
    assert curve.gap[0] < 1e-14
    assert curve.balancedness[0] < 1e-14


def test_float32(problem: Problem) -> None:
    single, double = train(problem, dtype="float32"), train(problem)
    assert 1e-9 < single.gap[0] < 1e-5
    assert max(single.gap) == pytest.approx(max(double.gap), rel=0.5)  # from another start


def test_steps_are_counted(problem: Problem) -> None:
    calls = itertools.count()
    curve = train(problem, steps=7, on_step=lambda: next(calls))
    assert next(calls) == 7
    assert len(curve.gap) == 8


@pytest.mark.parametrize("lr", [1.5, 5.0, 1e3, 1e200])
@pytest.mark.parametrize("optimizer_depth", [None, 1, 8])  # either model goes first
def test_divergence_ends_it(lr: float, optimizer_depth: int | None, problem: Problem) -> None:
    calls = itertools.count()
    curve = train(
        problem,
        lr=lr,
        steps=2000,
        optimizer_depth=optimizer_depth,
        on_step=lambda: next(calls),
    )
    columns = (curve.loss_single, curve.loss_deep, curve.gap, curve.balancedness)
    assert {len(column) for column in columns} == {len(curve.gap)}
    assert 1 <= len(curve.gap) < 2000
    assert next(calls) <= len(curve.gap) + 1  # one step further, a loss tells
    assert all(math.isfinite(value) for column in columns for value in column)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("init_scale", [1e-12, 1e12])
@pytest.mark.parametrize("depth", [2, 30])
def test_every_start_can_be_recorded(
    dtype: str, init_scale: float, depth: int, problem: Problem
) -> None:
    curve = train(problem, dtype=dtype, init_scale=init_scale, depth=depth, steps=2)
    assert len(curve.gap) >= 1


def test_interruption_reaches_the_caller(problem: Problem) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(problem, on_step=lambda: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is handler


def test_errors_reach_the_caller(problem: Problem) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        train(problem, on_step=leave)


def traces() -> list[object]:
    return [
        rank_zero.log.level,
        logging.getLogger().level,
        list(warnings.filters),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_rng_state().tolist(),
        *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)),
    ]


def nothing() -> None:
    """What a step does when nothing happens."""


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("on_step", [nothing, interrupt])
@pytest.mark.parametrize("threads", [1, 2])
def test_leaves_no_trace(
    on_step: Callable[[], None],
    threads: int,
    problem: Problem,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    used = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        caplog.set_level(15, logger=rank_zero.log.name)
        before = traces()
        try:
            train(problem, on_step=on_step)
        except KeyboardInterrupt:
            assert on_step is interrupt
        assert traces() == before
    finally:
        torch.set_num_threads(used)
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records] == []
