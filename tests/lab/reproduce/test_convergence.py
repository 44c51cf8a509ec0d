"""Runs of the convergence experiment against the theorem's numbers and literal loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from virtualdepth.maths import balancedness, deficiency_margin, end_to_end_product
from virtualdepth_lab.reproduce.convergence.descent import (
    descend,
    identity_rows,
    lemma_rows,
    lemma_violations,
    scalar_rows,
    unbalanced_rows,
    with_margin,
)
from virtualdepth_lab.reproduce.convergence.starts import (
    RATES,
    balanced,
    iterations,
    layerwise,
    margin_probability,
    probability_rows,
)


def test_scalar_runs() -> None:
    found = {row["depth"]: (row["bound"], row["steps"]) for row in scalar_rows((2,))}
    assert found == {2: (534_215, 121_878)}


def test_descent_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(4)
    factors = [
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((3, 4), (3, 3), (2, 3))
    ]
    target = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    path = descend(factors, target, 0.01)
    for _ in range(5):
        torch.testing.assert_close(next(path)[-1], end_to_end_product(factors))
        layers = [factor.requires_grad_() for factor in factors]
        loss = (layers[2] @ layers[1] @ layers[0] - target).square().sum() / 2
        grads = torch.autograd.grad(loss, layers)
        factors = [(w - 0.01 * g).detach() for w, g in zip(layers, grads, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_problems_of_the_lemma_have_a_margin(seed: int) -> None:
    assert deficiency_margin(*with_margin(seed)) == pytest.approx(0.25, rel=1e-10)


def test_lemma_holds_where_it_should_and_fails_where_it_should() -> None:
    rows = list(lemma_rows((0, 1), steps=200))
    assert [row["violations"] for row in rows] == [0, 0, 0]
    assert [row["steps_checked"] for row in rows] == [400, 400, 400]
    # thirty times as large, eta = 0.01 is no small step: the loss goes up
    start, target = (30 * matrix.unsqueeze(0) for matrix in with_margin(0))
    assert lemma_violations(start, target, 3, 1) == (1, 1)


def test_assumptions_are_necessary() -> None:
    rows = {(row["depth"], row["start"]): row for row in unbalanced_rows()}
    for depth in (2, 3):
        good, bad = rows[depth, "balanced"], rows[depth, "unbalanced"]
        assert good["margin"] == bad["margin"] == pytest.approx(0.95, rel=1e-12)
        assert good["imbalance"] < good["delta"] < bad["imbalance"]
        assert good["loss"] < 1e-12
        assert bad["loss"] == math.inf


def test_identity_is_stuck_at_the_negative_eigenvalue() -> None:
    for row in identity_rows(500):
        # of diag(1, -1) the second entry can at best be left at 0
        assert row["loss"] == pytest.approx(0.5, abs=1e-3)
        assert row["loss"] >= 0.5


@pytest.mark.parametrize("dimension", [2, 20, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_margin_probability(dimension: int, scale: float) -> None:
    generator = np.random.default_rng(0)
    draws = scale / dimension * generator.standard_normal((10_000, dimension))
    draws[:, 0] -= 1
    share = float(((draws**2).sum(1) < 1).mean())
    exact = margin_probability(dimension, scale / dimension)
    assert exact == pytest.approx(share, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_shares_of_random_starts() -> None:
    for row in probability_rows(60, seed=3):
        assert row["from"] <= row["share"] <= row["to"]
        spread = math.sqrt(row["exact"] * (1 - row["exact"]) / 60)
        assert abs(row["share"] - row["exact"]) < 4 * spread + 1e-9
        assert row["certified"] == row["certified_converged"] == round(60 * row["share"])


@pytest.mark.parametrize("draw", [layerwise, balanced])
@pytest.mark.parametrize("depth", [3, 8])
def test_starts_have_the_standard_deviation_asked_for(draw, depth: int) -> None:
    target = torch.zeros(64, 1, dtype=torch.float64)
    entries = []
    for seed in range(200):
        factors = draw(target, depth, 0.3, torch.Generator().manual_seed(seed))
        assert len(factors) == depth
        entries.append(end_to_end_product(factors).flatten())
    # products of many Gaussian layers have heavy tails: their squares average slowly
    root = torch.cat(entries).square().mean().sqrt().item()
    assert root == pytest.approx(0.3, rel=0.02 if draw is balanced else 0.25)
    defect = balancedness(factors).max()
    assert (defect < 1e-12) == (draw is balanced)


def literal_count(factors: list[Tensor], target: Tensor, rate: float, most: int) -> float:
    for step in range(most + 1):
        product = end_to_end_product(factors)
        excess = float((product - target).square().sum()) / 2
        if excess <= 1e-5:
            return step
        layers = [factor.clone().requires_grad_() for factor in factors]
        (end_to_end_product(layers) - target).square().sum().div(2).backward()
        factors = [(w - rate * w.grad).detach() for w in layers]
    return math.inf


def test_iterations_are_those_of_the_best_rate() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([[0.6], [-0.8]], dtype=torch.float64)
    groups = [layerwise(target, 3, deviation, generator) for deviation in (0.05, 0.2)]
    for factors, found in zip(groups, iterations(groups, target, 80), strict=True):
        counts = {rate: literal_count(factors, target, rate, 80) for rate in RATES}
        assert found is not None
        assert found[0] == min(counts.values())
        assert counts[found[1]] == found[0]


def test_starts_that_do_not_converge_in_time() -> None:
    target = torch.tensor([[0.6], [-0.8]], dtype=torch.float64)
    tiny = balanced(target, 8, 1e-9, torch.Generator().manual_seed(0))
    assert iterations([tiny], target, 120) == [None]
