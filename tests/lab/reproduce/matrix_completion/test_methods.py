"""The methods that train a completion agree where the theory says so."""

import pytest
import torch

from virtualdepth.data import gaussian_layers, low_rank_problem, small_start
from virtualdepth.maths import balanced_factors
from virtualdepth_lab.reproduce.matrix_completion.methods import (
    auto,
    explicit_loop,
    flow,
    flow_then_minimise,
    single_loop,
    tight_flow,
)
from virtualdepth_lab.reproduce.matrix_completion.run import relative_distance

STOP = 1e-4
PROBLEM = low_rank_problem(12, 1, 90, seed=3)


@pytest.mark.parametrize("depth", [2, 3])
def test_one_matrix_follows_the_explicit_network(depth: int) -> None:
    start = small_start(12, 1, 0.1, seed=1)
    deep = explicit_loop(PROBLEM, balanced_factors(start, depth), stop_loss=STOP, lr=2e-2)
    single = single_loop(PROBLEM, start, depth, stop_loss=STOP, lr=2e-2)
    assert deep.finished
    assert single.finished
    assert single.evaluations == pytest.approx(deep.evaluations, rel=0.02)
    assert relative_distance(single.weight, deep.weight) < 1e-2


@pytest.mark.parametrize("depth", [2, 3])
def test_fast_ways_end_where_the_flow_does(depth: int) -> None:
    start = small_start(12, 1, 1e-2, seed=1)
    tight = tight_flow(PROBLEM, start, depth, stop_loss=STOP)
    assert (
        relative_distance(flow(PROBLEM, start, depth, stop_loss=STOP).weight, tight.weight) < 5e-3
    )
    quick = auto(PROBLEM, start, depth, stop_loss=STOP)
    assert quick.finished
    assert quick.loss <= STOP
    assert relative_distance(quick.weight, tight.weight) < 2e-2


def test_auto_gives_up_when_told_to() -> None:
    end = auto(PROBLEM, small_start(12, 1, 1e-2, seed=1), 2, stop_loss=STOP, max_evaluations=5)
    assert (end.evaluations, end.finished) == (5, False)


def test_a_flow_that_has_not_grown_is_not_minimised_from() -> None:
    start = small_start(12, 4, 1e-6, seed=1)
    end = flow_then_minimise(PROBLEM, start, 4, stop_loss=STOP, max_evaluations=20)
    assert not end.finished
    assert end.evaluations < 25  # the flow's own
    torch.testing.assert_close(end.loss, float(PROBLEM.objective(end.weight)[1]))


def test_objective_is_the_gradient_of_the_loss() -> None:
    weight = small_start(12, 1, 1.0, seed=2).requires_grad_()
    loss = PROBLEM.loss(weight)
    (expected,) = torch.autograd.grad(loss, weight)
    grad, value = PROBLEM.objective(weight.detach())
    torch.testing.assert_close(grad, expected)
    torch.testing.assert_close(value, loss.detach())


def test_start_is_the_product_of_the_layers() -> None:
    layers = gaussian_layers(6, 3, 1e-3, seed=4)
    assert [float(layer.std()) for layer in layers] == pytest.approx([0.1 / 6**0.5] * 3, rel=0.3)
    product = layers[2] @ layers[1] @ layers[0]
    torch.testing.assert_close(small_start(6, 3, 1e-3, seed=4), product)
