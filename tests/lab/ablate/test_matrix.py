"""Cells of the built-in problems against truths that know nothing of studies."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from virtualdepth.data import low_rank_problem
from virtualdepth.maths import balancedness
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.built_in import CompletionProblem, RegressionProblem
from virtualdepth_lab.ablate.matrix import start_of
from virtualdepth_lab.ablate.options import MatrixOptions

SMALL: dict[str, Any] = {"size": 12, "rank": 1, "observed": 100, "seed": 3}


def test_depth_1_fills_in_what_is_observed_and_leaves_the_rest() -> None:
    found = CompletionProblem(depth=1, init_scale=0.5, **SMALL).train(50)
    problem = low_rank_problem(12, 1, 100, seed=3)
    (start,) = start_of(MatrixOptions(seed=3, depth=1, init_scale=0.5), (12, 12))
    unseen = (start - problem.truth).square() * (1 - problem.mask)
    assert found["error"] == pytest.approx(float(unseen.sum()) / 144, rel=1e-12)
    assert (found["evaluations"], found["reached"]) == (2, True)


def test_depth_3_finds_the_truth_and_depth_1_does_not() -> None:
    found = CompletionProblem(depth=3, init_scale=1e-3, stop_loss=2e-6, **SMALL).train(400)
    truth = low_rank_problem(12, 1, 100, seed=3).truth
    assert found["reached"]
    assert found["error"] < 1e-5
    assert found["effective_rank"] == pytest.approx(1, abs=0.04)
    assert found["nuclear_norm"] == pytest.approx(np.linalg.norm(truth, "nuc"), rel=1e-2)


def test_noise_is_on_what_is_seen_and_not_in_the_error() -> None:
    clean = CompletionProblem(depth=1, **SMALL).train(50)
    noisy = CompletionProblem(depth=1, noise=0.3, **SMALL).train(50)
    assert noisy["loss"] < 1e-20
    excess = (noisy["error"] - clean["error"]) * 144 / 100
    assert excess == pytest.approx(0.09, rel=0.5)  # the variance of the noise, over 100 entries


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("width", [None, 15])
def test_one_matrix_follows_the_explicit_network(depth: int, width: int | None) -> None:
    """The gap is of the order of the learning rate: arXiv 1802.06509, Theorem 1."""
    same: dict[str, Any] = {
        **SMALL, "depth": depth, "init_scale": 0.5, "step_scale": "raw", "stop_loss": 0.0
    }  # fmt: skip
    gaps = []
    for lr, steps in ((0.2, 100), (0.1, 200)):
        single = CompletionProblem(model="single", lr=lr, **same).train(steps)
        deep = CompletionProblem(model="explicit", lr=lr, width=width, **same).train(steps)
        gaps.append(abs(single["loss"] / deep["loss"] - 1))
    assert gaps[0] < 0.1
    assert gaps[1] < 0.7 * gaps[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
@pytest.mark.parametrize(
    ("model", "depth", "step_scale"),
    [("single", 1, "raw"), ("single", 2.5, "unit"), ("single", 3, "rms"), ("explicit", 2, "raw")],
)
def test_every_optimizer_lowers_the_loss(
    optimizer: str, model: str, depth: float, step_scale: str
) -> None:
    lr = 5.0 if (optimizer, model) == ("sgd", "single") and step_scale == "unit" else 0.02
    problem = CompletionProblem(
        model=model, depth=depth, step_scale=step_scale, optimizer=optimizer, lr=lr,
        init_scale=0.5, **SMALL,
    )  # fmt: skip
    first, last = problem.train(1), problem.train(60)
    assert last["loss"] < first["loss"]
    assert last["evaluations"] == 60


def test_divergence_raises() -> None:
    problem = CompletionProblem(depth=3, lr=1e4, step_scale="raw", init_scale=1.0, **SMALL)
    with pytest.raises(FloatingPointError):
        problem.train(200)


@pytest.mark.parametrize("depth", [1, 1.5, 4, math.inf])
def test_the_start_is_the_same_at_every_depth(depth: float) -> None:
    reference = start_of(MatrixOptions(seed=5, depth=2, init_scale=0.3), (20, 40))
    (start,) = start_of(MatrixOptions(seed=5, depth=depth, init_scale=0.3), (20, 40))
    assert torch.equal(start, reference[0])
    assert float(start.std()) == pytest.approx(0.3 / 40**0.5, rel=0.1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("depth", "width"), [(1, None), (2, 5), (3, None), (4, 7)])
def test_explicit_starts(depth: int, width: int | None, dtype: str) -> None:
    raw: dict[str, Any] = {
        "seed": 1, "depth": depth, "width": width, "step_scale": "raw", "lr": 1, "dtype": dtype
    }  # fmt: skip
    factors = start_of(MatrixOptions(model="explicit", **raw), (5, 8))
    assert {factor.dtype for factor in factors} == {getattr(torch, dtype)}
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    (single,) = start_of(MatrixOptions(**{**raw, "width": None}), (5, 8))
    torch.testing.assert_close(product, single)
    if depth > 1:
        assert float(balancedness(factors).max()) < 1e-6
    layers = start_of(MatrixOptions(model="explicit", start="layers", **raw), (5, 8))
    assert [tuple(layer.shape) for layer in layers] == [tuple(f.shape) for f in factors]
    assert float(balancedness(layers).max()) > 1e-6 if depth > 1 else True


def test_regression_at_depth_1_is_least_squares() -> None:
    data, labels = load_digits(return_X_y=True)
    found = RegressionProblem(depth=1, seed=0, init_scale=1.0).train(20)
    x = data - data.mean(0)
    y = np.eye(10)[labels] - np.eye(10)[labels].mean(0)
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert found["loss"] == pytest.approx(((fitted - y) ** 2).sum() / (2 * len(x)), rel=1e-6)
    assert "error" not in found


def test_regression_leaves_samples_out() -> None:
    problem = RegressionProblem(data="synthetic", depth=2, samples=40, seed=1, stop_loss=0)
    assert problem.train(20) == problem.train(20)
    found = problem.train(300)
    # 12 weights for each target from 40 samples with noise 0.1: overfitted by 12 / 40 and more
    assert found["loss"] < found["error"] < 4 * found["loss"]
    noisy = RegressionProblem(data="synthetic", depth=2, samples=40, seed=1, noise=1.0, stop_loss=0)
    assert noisy.train(150)["error"] > 10 * found["error"]


def test_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(UnusableError, match="samples: expected fewer than the 200 there are"):
        RegressionProblem(data="synthetic", samples=200, seed=0).train(1)


def test_reports_say_where_it_stands() -> None:
    told: list[tuple[int, float]] = []
    CompletionProblem(depth=2, init_scale=0.1, **SMALL).train(
        40, lambda step, metrics: told.append((step, metrics["loss"]))
    )
    assert [step for step, _ in told] == list(range(2, 41, 2))
    assert told[-1][1] < told[0][1]
