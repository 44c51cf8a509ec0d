"""Trained networks, the steps of a path, and paths of ReLU networks."""

from itertools import pairwise

import pytest
import torch
from tests.maths.matrices import gaussian

from virtualdepth_lab.reproduce.connectivity import relu
from virtualdepth_lab.reproduce.connectivity.problem import (
    draw_regression,
    largest_step,
    size_of,
    straight_line,
)
from virtualdepth_lab.reproduce.connectivity.run import linear_rows


def test_training_fits_the_samples() -> None:
    problem = draw_regression(3, 6, 4, seed=1)
    first, second = (problem.train((4,), seed) for seed in (0, 1))
    assert max(map(problem.loss, (first, second))) < 1e-12
    residual = second[1] @ second[0] @ problem.inputs - problem.targets
    assert problem.loss(first) == pytest.approx(0, abs=1e-12)
    assert float(residual.norm()) < 1e-5
    zero = [torch.zeros_like(factor) for factor in first]
    assert problem.loss(zero) == pytest.approx(float(problem.targets.square().sum()) / 8)


def test_steps_and_sizes() -> None:
    first, second = [torch.zeros(2, 2)], [torch.full((2, 2), 3.0)]
    assert size_of(second) == 6
    assert largest_step(straight_line(first, second, 4)) == pytest.approx(2)


def test_rows_of_a_pair() -> None:
    both, flipped = linear_rows((5, 5), 0, (20, 40))
    assert both["path"] <= max(both["ends"]) + 1e-12 < both["straight_line"]
    assert both["slope"] == pytest.approx(-1, abs=0.15)
    assert flipped["slope"] > -0.6
    assert both["arrays"]["linear_5 5_0"].shape == (2, 246)


@pytest.fixture(scope="module")
def digits() -> relu.Digits:
    return relu.load_digits()


def net(seed: int) -> relu.Net:
    return relu.Net(gaussian(8, 65, seed=seed) / 8, gaussian(9, 10, seed=seed + 1))


def test_a_path_from_end_to_end_without_jumps(digits: relu.Digits) -> None:
    first, second = net(0), net(2)
    path = list(relu.join(first, second, relu.doubled, 201))
    assert len(path) == 5 * 200 + 1
    for end, each in ((path[0], first), (path[-1], second)):
        assert torch.equal(end.incoming, each.incoming)
        assert torch.equal(end.outgoing, each.outgoing)
    jumps = [
        float((b.incoming - a.incoming).norm() + (b.outgoing - a.outgoing).norm())
        for a, b in pairwise(path)
    ]
    assert max(jumps) < 0.2
    losses = [digits.loss(each) for each in path]
    # constant where incoming weights move, convex where outgoing ones do
    for start in (200, 600):
        assert max(losses[start : start + 201]) == pytest.approx(losses[start], rel=1e-12)
    corners = [losses[place] for place in (0, 200, 600, 1000)]
    assert max(losses) == pytest.approx(max(corners), rel=1e-12)


def test_halves(digits: relu.Digits) -> None:
    whole, kept = net(0), torch.arange(4)
    double, trained = relu.doubled(whole, kept), relu.fitted(digits, whole, kept, 15)
    for half in (double, trained):
        assert torch.equal(half.incoming, whole.incoming)
        assert not half.outgoing[4:8].any()
    assert torch.equal(double.outgoing[:4], 2 * whole.outgoing[:4])
    assert torch.equal(double.outgoing[-1], whole.outgoing[-1])
    assert digits.loss(trained) < digits.loss(double)
    assert 0 <= digits.errors(trained) <= 1


def test_training_lowers_the_loss(digits: relu.Digits) -> None:
    one, other = (relu.train(digits, 8, seed, 30) for seed in (0, 0))
    assert torch.equal(one.incoming, other.incoming)
    assert digits.loss(one) < 0.95 * digits.loss(relu.train(digits, 8, 0, 0))
