"""Batches of runs against each run alone, written literally."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.lab.reproduce.lp_regression.small import problem
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.methods import (
    ExplicitRuns,
    Method,
    NormalisedRuns,
    RuleRuns,
    TorchRuns,
)
from virtualdepth_lab.reproduce.lp_regression.training import begin, train

DATA = problem(4)
RATES = (0.003, 0.01, 0.03)
START = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
STEPS = 25
Direction = Callable[[Tensor, Tensor], Tensor]


def gradient(weight: Tensor) -> Tensor:
    residuals = DATA.inputs @ weight - DATA.targets
    return (residuals**3) @ DATA.inputs / len(DATA.targets)


def ends(method: Method) -> Tensor:
    runs = begin(method, START, RATES)
    for _ in range(STEPS):
        runs.step(DATA.objective(runs.weights.detach())[0])
    return runs.weights.detach().squeeze(1)


def literal(direction: Direction) -> Tensor:
    finals = []
    for rate in RATES:
        weight = START[0].clone()
        for _ in range(STEPS):
            weight = weight - rate * direction(weight, gradient(weight))
        finals.append(weight)
    return torch.stack(finals)


def single_output(depth: float) -> Direction:
    """arXiv 1802.06509, Claim 2."""
    return lambda w, g: (
        w.norm() ** (2 - 2 / depth) * (g + (depth - 1) * (w @ g) * w / w.norm() ** 2)
    )


def close(found: Tensor, expected: Tensor) -> None:
    assert (found - START).norm(dim=1).min() > 1e-3  # they have moved
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8])
def test_rule(depth: float) -> None:
    close(ends(partial(RuleRuns, depth=depth)), literal(single_output(depth)))


def test_parts_of_the_rule() -> None:
    full = single_output(2)
    close(
        ends(partial(RuleRuns, depth=2, without_gain=True)),
        literal(lambda w, g: full(w, g) / (2 * w.norm())),
    )
    close(ends(partial(RuleRuns, depth=2, only_gain=True)), literal(lambda w, g: w.norm() * g))


@pytest.mark.parametrize("depth", [2, 3])
def test_explicit_network(depth: int) -> None:
    scale = START.norm().item() ** (1 / depth)
    finals = []
    for rate in RATES:
        layers = [
            scale * START / START.norm(),
            *[torch.tensor([[scale]], dtype=torch.float64)] * (depth - 1),
        ]
        layers = [layer.clone().requires_grad_() for layer in layers]
        for _ in range(STEPS):
            network = layers[0]
            for layer in layers[1:]:
                network = layer @ network
            loss = ((network @ DATA.inputs.T - DATA.targets) ** 4).mean() / 4
            grads = torch.autograd.grad(loss, layers)
            layers = [
                (w - rate * g).detach().requires_grad_() for w, g in zip(layers, grads, strict=True)
            ]
        finals.append(math.prod(layer.item() for layer in layers[1:]) * layers[0].detach()[0])
    close(ends(partial(ExplicitRuns, depth=depth)), torch.stack(finals))


def test_scalar_normaliser() -> None:
    finals = []
    for rate in RATES:
        weight, mean = START[0].clone(), 0.0
        for step in range(1, STEPS + 1):
            grad = gradient(weight)
            mean = 0.99 * mean + 0.01 * float(grad @ grad)
            weight = weight - rate * grad / (math.sqrt(mean / (1 - 0.99**step)) + 1e-4)
        finals.append(weight)
    close(ends(NormalisedRuns), torch.stack(finals))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.Adadelta])
def test_torch_optimizers_do_not_mix_runs(kind: type[torch.optim.Optimizer]) -> None:
    finals = []
    for rate in RATES:
        weight = START[0].clone().requires_grad_()
        optimizer = kind([weight], lr=rate)
        for _ in range(STEPS):
            weight.grad = gradient(weight.detach())
            optimizer.step()
        finals.append(weight.detach())
    found = ends(partial(TorchRuns, optimizer=kind))
    torch.testing.assert_close(found, torch.stack(finals), rtol=1e-10, atol=1e-12)
    assert (found - START).norm(dim=1).min() > 1e-6


def test_methods_side_by_side_run_as_alone() -> None:
    methods = [
        partial(RuleRuns, depth=3),
        NormalisedRuns,
        partial(TorchRuns, optimizer=torch.optim.Adam),
    ]
    runs = [begin(method, START, RATES) for method in methods]
    train(DATA, runs, STEPS, [1.0], lambda _: None)
    for method, run in zip(methods, runs, strict=True):
        torch.testing.assert_close(
            run.weights.detach().squeeze(1), ends(method), rtol=1e-12, atol=1e-14
        )
