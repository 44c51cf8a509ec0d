"""solver="tracked" in the optimizer, against the literal rule on the same weights."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.tools import random_tensor
from tests.optim.truth import preconditioned, preconditioned_term_by_term
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.maths._reference import factor_gradients_literally
from virtualdepth.optim._finite_check import FiniteCheck

SIZE = 24


def literal(weight: Tensor, grad: Tensor, depth: float) -> Tensor:
    """P_W(G) in numpy; term by term where it can be, which is safe at equal singular values."""
    w, g = weight.detach().numpy(), grad.numpy()
    if depth % 1 == 0:
        return torch.from_numpy(preconditioned_term_by_term(w, g, int(depth)))
    return torch.from_numpy(preconditioned(w, g, depth))


def target(shape: tuple[int, int]) -> Tensor:
    return random_tensor((shape[0], 3), 5) @ random_tensor((3, shape[1]), 6) / 10


def start(kind: str, shape: tuple[int, int]) -> Tensor:
    if kind == "default":
        return random_tensor(shape, 1) / math.sqrt(3 * shape[1])
    u, _, vh = torch.linalg.svd(random_tensor(shape, 2), full_matrices=False)
    sigma = {
        "near zero": 1e-3 * torch.linspace(1, 0.1, min(shape)),
        "clusters": 1e-4 * torch.arange(min(shape)) + (torch.arange(min(shape)) < 9),
        "decades": torch.logspace(0, -4, min(shape)),
        "identity": 1 + 1e-9 * torch.arange(min(shape)),
    }[kind]
    return u * sigma.double() @ vh


def errors_of_a_run(
    weight: Tensor, steps: int, lr: float, noise: float = 0.0, **options: Any
) -> tuple[list[float], nn.Parameter, vd.EndToEndSGD]:
    """What each step did, over the literal P_W(G) where the step began."""
    p = nn.Parameter(weight.clone())
    optimizer = vd.EndToEndSGD([("layer", p)], lr=lr, **{"solver": "tracked", **options})
    depth, found = optimizer.param_groups[0]["depth"], []
    for step in range(steps):
        before = p.detach().clone()
        p.grad = before - target(tuple(weight.shape))
        p.grad += noise * random_tensor(tuple(weight.shape), 100 + step)
        optimizer.step()
        exact = literal(before, p.grad, depth)
        found.append(float(((before - p.detach()) / lr - exact).norm() / exact.norm()))
    return found, p, optimizer


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8, math.inf])
@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 60), (60, SIZE)], ids=str)
def test_it_follows_the_literal_rule(shape: tuple[int, int], depth: float) -> None:
    errors, _, optimizer = errors_of_a_run(start("default", shape), 60, 1e-3, depth=depth)
    assert np.median(errors) < 1e-4
    assert max(errors) < 1e-3
    state = next(iter(optimizer.state.values()))
    assert state["tracked_steps"] == 60
    assert state["tracked_decomposed"] < 20, "it did not follow"


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("zero", (SIZE, 40)), ("near zero", (40, SIZE)), ("default", (SIZE, SIZE))],
)
@pytest.mark.parametrize("imbalance", [1e-3, 0.3])
@pytest.mark.parametrize("depth", [2, 3])
def test_it_follows_the_rule_of_unequal_layers(
    depth: int, imbalance: float, kind: str, shape: tuple[int, int]
) -> None:
    p = nn.Parameter(torch.zeros(shape).double() if kind == "zero" else start(kind, shape))
    optimizer = vd.EndToEndSGD([p], lr=1e-2, depth=depth, solver="tracked", imbalance=imbalance)
    errors = []
    for _ in range(40):
        before = p.detach().clone()
        p.grad = before - target(shape)
        optimizer.step()
        layers = vd.balanced_factors(before, depth, imbalance=imbalance)
        exact = torch.zeros(shape).double()
        for j, velocity in enumerate(factor_gradients_literally(layers, p.grad)):
            exact += vd.end_to_end_product([*layers[:j], velocity, *layers[j + 1 :]])
        errors.append(float(((before - p.detach()) / 1e-2 - exact).norm() / exact.norm()))
    assert max(errors) < 1e-3
    assert optimizer.state[p]["tracked_decomposed"] < 40, "it did not follow"


@pytest.mark.parametrize("kind", ["near zero", "clusters", "decades", "identity"])
@pytest.mark.parametrize("lr", [1e-3, 3e-2])
@pytest.mark.parametrize("noise", [0, 0.3])
def test_where_it_cannot_follow_it_decomposes(kind: str, lr: float, noise: float) -> None:
    errors, _, _ = errors_of_a_run(start(kind, (SIZE, SIZE)), 40, lr, noise, depth=3)
    assert np.median(errors) < 1e-4
    assert max(errors) < 1e-3


@pytest.mark.parametrize("depth", [3, 4])
def test_small_directions_count_where_the_large_ones_have_arrived(depth: int) -> None:
    """There the gradient is small along large singular values, and so is P_W(G)."""
    weight = random_tensor((SIZE, SIZE), 1) / 100 / math.sqrt(SIZE)
    p = nn.Parameter(weight)
    optimizer = vd.EndToEndSGD([p], lr=0.02, depth=depth, solver="tracked")
    u, _, vh = torch.linalg.svd(random_tensor((SIZE, SIZE), 2))
    end = u[:, :3] * torch.tensor([3.0, 2.0, 1.0]).double() @ vh[:3]
    errors = []
    for _ in range(400):
        before = p.detach().clone()
        p.grad = before - end
        optimizer.step()
        exact = literal(before, p.grad, depth)
        errors.append(float(((before - p.detach()) / 0.02 - exact).norm() / exact.norm()))
    assert max(errors) < 1e-3
    assert optimizer.state[p]["tracked_decomposed"] < 400


def test_hot_steps_are_the_exact_path_at_its_price() -> None:
    """It rests for longer and longer, and does not forget to try again."""
    errors, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 40, 0.05, 1.0, depth=2)
    assert max(errors) < 1e-10
    state = optimizer.state[p]
    assert state["tracked_decomposed"] == 40
    assert state["tracked_rest"] > 0
    assert 0 < state["tracked_failures"] < 10
    for _ in range(80):
        p.grad = 1e-6 * random_tensor((SIZE, SIZE), 7)
        optimizer.step()
    assert state["tracked_decomposed"] < 100
    assert state["tracked_failures"] == 0


def test_hot_steps_on_a_device_are_exact_but_for_a_try_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There a turn that left too much is met one step late: each try costs a wrong step."""
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    errors, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 40, 0.05, 1.0, depth=2)
    wrong = [step for step, error in enumerate(errors) if error > 1e-10]
    assert wrong == [1, 3, 6, 11, 20, 37]
    assert optimizer.state[p]["tracked_decomposed"] == 40 - len(wrong)
    for _ in range(80):
        p.grad = 1e-6 * random_tensor((SIZE, SIZE), 7)
        optimizer.step()
    assert optimizer.state[p]["tracked_decomposed"] < 100
    assert optimizer.state[p]["tracked_failures"] == 0


@pytest.mark.parametrize("shape", [(192, 192), (200, 250)], ids=str)
def test_steps_of_a_percent_are_followed(shape: tuple[int, int]) -> None:
    errors, p, optimizer = errors_of_a_run(start("default", shape), 10, 1.5e-3, depth=3)
    before = p.detach().clone()
    optimizer.step()
    assert (before - p).norm() > 0.008 * before.norm()
    assert max(errors) < 5e-4
    assert optimizer.state[p]["tracked_decomposed"] == 1


def test_steps_that_are_tiny_leave_the_singular_vectors_as_they_are() -> None:
    errors, p, optimizer = errors_of_a_run(start("default", (64, 100)), 2, 5e-6, depth=3)
    turned, state = 0, optimizer.state[p]
    for _ in range(40):
        left, weight = state["tracked_left"], p.detach().clone()
        optimizer.step()
        turned += state["tracked_left"] is not left
        exact = literal(weight, p.grad, 3)
        errors.append(float(((weight - p.detach()) / 5e-6 - exact).norm() / exact.norm()))
    assert 2 <= turned <= 15
    assert max(errors) < 2e-4
