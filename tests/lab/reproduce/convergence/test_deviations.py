"""Starts have the deviation asked for, and their iterations are those of a literal loop."""

import math

import pytest
import torch
from torch import Tensor

from virtualdepth.maths import balancedness, end_to_end_product
from virtualdepth_lab.reproduce.convergence.deviations import RATES, iterations
from virtualdepth_lab.reproduce.convergence.problem import balanced, layerwise


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
