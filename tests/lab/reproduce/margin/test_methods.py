"""Vector and network against literal steps, and where they end."""

import numpy as np
import pytest
import torch
from tests.lab.reproduce.margin.two_points import TWO, signed, vector
from torch import Tensor

from virtualdepth_lab.reproduce.margin.methods import (
    PER_DECADE,
    RELATIVE_STEP,
    STEP,
    follow_network,
    follow_vector,
    recorded,
)
from virtualdepth_lab.reproduce.margin.problem import Separable, angle, random_problem


def test_recorded_steps() -> None:
    assert recorded(10) == [1, 2, 3, 4, 5, 6, 8, 10]
    assert recorded(7)[0] == 1
    steps = recorded(20_000)
    assert steps[-1 - PER_DECADE] == 2000
    assert steps == sorted(set(steps))


def gradient(problem: Separable, weight: Tensor) -> Tensor:
    """Of the loss, over the loss."""
    points = signed(problem)
    margins = (points @ weight.T).squeeze(1)
    loss = torch.log1p(torch.exp(-margins)).sum()
    return -(points.T @ torch.sigmoid(-margins)).unsqueeze(0) / loss


def length(weight: Tensor, depth: int) -> float:
    norm = float(weight.norm())
    return min(STEP, RELATIVE_STEP * norm) / depth / norm ** (2 - 2 / depth)


START = torch.linspace(-0.3, 0.5, 10, dtype=torch.float64).unsqueeze(0)


@pytest.mark.parametrize("scale", [1.0, 100.0])  # steps bound by the length of w, and not
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_vector_follows_the_rule(depth: int, scale: float) -> None:
    problem = random_problem(2)
    weight, expected = scale * START, []
    for _ in range(6):
        grad, square = gradient(problem, weight), weight.square().sum()
        rule = square ** (1 - 1 / depth) * (
            grad + (depth - 1) * (weight * grad).sum() * weight / square
        )
        weight = weight - length(weight, depth) * rule
        expected.append(weight)
    found = follow_vector(problem, scale * START, depth, 6)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_network_descends_by_layers(depth: int) -> None:
    problem = random_problem(2)
    norm = float(START.norm())
    # balanced factors of a row: its direction, then numbers, each of the size norm^{1/N}
    first = norm ** (1 / depth) * START / norm
    others = [norm ** (1 / depth)] * (depth - 1)
    expected = []
    for _ in range(6):
        weight = np.prod(others) * first
        grad, lr = gradient(problem, weight), length(weight, depth)
        slope = float((grad * first).sum())
        steps = [slope * np.prod(others) / other for other in others]
        first = first - lr * np.prod(others) * grad
        others = [other - lr * step for other, step in zip(others, steps, strict=True)]
        expected.append(np.prod(others) * first)
    found = follow_network(problem, START, depth, 6)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_two_points_end_at_the_largest_margin(depth: int) -> None:
    start = vector(0.1, -0.02)  # misclassifies the second
    end = follow_vector(TWO, start, depth, 500)[-1:]
    assert float(angle(end, vector(1, 2))) < 0.02
    assert float(angle(start, vector(1, 2))) > 1
    assert TWO.margin(end) == pytest.approx(1 / 5**0.5, rel=0.02)
