"""Predictors by a kernel against literal descent, and networks against their definition."""

import math

import torch
from torch import Tensor, nn

from virtualdepth_lab.reproduce.kernels.problem import DeepTwin, WideNetwork, digits
from virtualdepth_lab.reproduce.kernels.regression import regression, train_network
from virtualdepth_lab.reproduce.kernels.width import imbalance_rows, twin_rows, zero_rows


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_regression_is_descent_with_the_kernel() -> None:
    features, others, targets = normal(0, 6, 20), normal(1, 3, 20), normal(2, 6, 2)
    train, test, rate = features @ features.T, others @ features.T, 1e-3
    weight = torch.zeros(20, 2, dtype=torch.float64)
    for _ in range(40):
        weight -= rate * features.T @ (features @ weight - targets)
    found = regression(train, test, targets, rate, 40)
    torch.testing.assert_close(found, others @ weight, rtol=1e-10, atol=1e-12)
    limit = regression(train, test, targets)
    torch.testing.assert_close(limit, test @ torch.linalg.solve(train, targets))
    torch.testing.assert_close(regression(train, test, targets, rate, 10**7), limit)


def test_directions_that_the_kernel_does_not_have_stay() -> None:
    features, targets = normal(0, 6, 3), normal(2, 6, 1)  # of rank 3
    found = regression(features @ features.T, features @ features.T, targets)
    best = features @ torch.linalg.lstsq(features, targets)[0]
    torch.testing.assert_close(found, best, rtol=1e-9, atol=1e-9)


def test_wide_networks_are_the_ones_of_the_formula() -> None:
    network = WideNetwork([3, 5, 2], "relu", torch.Generator().manual_seed(0))
    x, (first, second) = normal(1, 4, 3), [weight.detach() for weight in network.weights]
    hidden = 2**0.5 * torch.relu(x @ first.T / 3**0.5)
    torch.testing.assert_close(network(x).detach(), hidden @ second.T / 5**0.5)
    linear = WideNetwork([3, 5, 2], "linear", torch.Generator().manual_seed(0))
    torch.testing.assert_close(linear(x).detach(), x @ first.T @ second.T / 15**0.5)


def test_deep_twins_compute_the_same() -> None:
    layer, x = nn.Linear(4, 3).double(), normal(1, 5, 4)
    torch.testing.assert_close(DeepTwin(layer, 3)(x), layer(x))


def test_kernels_meet_on_one_seed() -> None:
    for row in (*twin_rows((4,)), *zero_rows()):
        assert row["gap"] < 1e-13
    [narrow, wide] = imbalance_rows((4,), (16, 1024))
    assert wide["gap_end"] < 0.3 * narrow["gap_end"]
    assert wide["turned"] > 0.1  # it learned something
    assert wide["balanced_gap_end"] > 0.3


def test_digits_and_their_network() -> None:
    data = digits(3)
    norms = torch.cat([data.inputs, data.test_inputs]).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 8.0))
    assert (len(data.inputs), len(data.test_inputs)) == (500, 1297)
    assert math.isclose(float(data.targets.sum()), 0, abs_tol=1e-9)
    scores = train_network(data, 2, 16, 1e-3, 30, seed=0)
    assert data.accuracy(scores) > 0.5
