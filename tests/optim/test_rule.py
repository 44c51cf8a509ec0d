"""The rule itself, against truths that share no code with it."""

import math
from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from tests.optim.truth import Truth, preconditioned, preconditioned_term_by_term
from torch import Tensor, nn

from virtualdepth import EndToEndSGD, balanced_factors, end_to_end_product
from virtualdepth.maths._reference import end_to_end_step_literally, factor_gradients_literally

LITERAL = [(5, 5), (3, 6), (6, 3), (1, 5), (5, 1), (1, 1)]
KERNELS = [(4, 3, 2), (4, 2, 3, 3), (3, 2, 2, 1, 2), (6, 1, 2, 2)]
DEPTHS = (1, 1.5, 2, 3, math.pi, 8, math.inf)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.2},
    "maximize": {"maximize": True},
    "maximize with decay": {"maximize": True, "weight_decay": 0.2},
    "momentum": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.4},
    "dampening alone": {"dampening": 0.4},
    "negative dampening": {"momentum": 0.9, "dampening": -0.4},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "all": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.2, "maximize": True},
}


def close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual.detach(), torch.as_tensor(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", LITERAL, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("weight_decay", [0, 0.3])
def test_the_theorem_term_by_term(shape: tuple[int, int], depth: int, weight_decay: float) -> None:
    weight = random_tensor(shape, 1).numpy()
    p = nn.Parameter(torch.tensor(weight))
    optimizer = EndToEndSGD([p], lr=0.01, depth=depth, weight_decay=weight_decay)
    for step in range(3):
        p.grad = random_tensor(shape, 10 + step)
        optimizer.step()
        moved = preconditioned_term_by_term(weight, p.grad.numpy(), depth)
        weight = (1 - 0.01 * weight_decay * depth) * weight - 0.01 * moved
        close(p, weight)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_formula_in_the_package_for_readers(depth: int) -> None:
    """Square: on a null space its Gram matrices lose half of the digits and more."""
    weight, grad = random_tensor((5, 5), 1), random_tensor((5, 5), 2)
    p = nn.Parameter(weight.clone())
    p.grad = grad.clone()
    EndToEndSGD([p], lr=0.01, depth=depth, weight_decay=0.3).step()
    close(p, end_to_end_step_literally(weight, grad, depth, 0.01, 0.3))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_option_at_every_depth(depth: float, options: dict[str, Any]) -> None:
    """Momentum and dampening come after the preconditioner, decay once per layer."""
    shapes = LITERAL + KERNELS
    params = [nn.Parameter(random_tensor(shape, i)) for i, shape in enumerate(shapes)]
    truths = [Truth(p.detach().numpy().copy(), 0.01, depth, **options) for p in params]
    optimizer = EndToEndSGD(params, lr=0.01, depth=depth, **options)
    for step in range(4):
        for number, (p, truth) in enumerate(zip(params, truths, strict=True)):
            p.grad = random_tensor(tuple(p.shape), 100 * step + number)
            truth.step(p.grad.numpy())
        optimizer.step()
        for p, truth in zip(params, truths, strict=True):
            close(p, truth.weight)


def test_groups_step_by_options_of_their_own() -> None:
    options: list[dict[str, Any]] = [
        {"depth": 1, "lr": 0.02},
        {"depth": 3, "lr": 0.01, "momentum": 0.9},
        {"depth": 2.5, "lr": 0.03, "weight_decay": 0.1},
        {"depth": math.inf, "lr": 0.01, "maximize": True},
    ]
    params = [nn.Parameter(random_tensor((4, 3), i)) for i in range(len(options))]
    optimizer = EndToEndSGD(
        [{"params": [p], **own} for p, own in zip(params, options, strict=True)]
    )
    truths = [
        Truth(p.detach().numpy().copy(), **own) for p, own in zip(params, options, strict=True)
    ]
    for step in range(3):
        for number, (p, truth) in enumerate(zip(params, truths, strict=True)):
            p.grad = random_tensor((4, 3), 10 * step + number)
            truth.step(p.grad.numpy())
        optimizer.step()
    for p, truth in zip(params, truths, strict=True):
        close(p, truth.weight)


@pytest.mark.parametrize("lr", [torch.tensor(0.01), torch.tensor([0.01], dtype=torch.float64)])
def test_a_tensor_is_a_learning_rate_too(lr: Tensor) -> None:
    p = nn.Parameter(random_tensor((4, 3), 0))
    truth = Truth(p.detach().numpy().copy(), float(lr), 3)
    optimizer = EndToEndSGD([p], lr=lr, depth=3)
    p.grad = random_tensor((4, 3), 1)
    optimizer.step()
    lr.fill_(0.02)
    optimizer.step()
    truth.step(p.grad.numpy())
    truth.lr = 0.02 if lr.dtype == torch.float64 else float(torch.tensor(0.02))
    truth.step(p.grad.numpy())
    close(p, truth.weight)


def test_depth_follows_the_group_step_by_step() -> None:
    p = nn.Parameter(random_tensor((4, 3), 0))
    truth = Truth(p.detach().numpy().copy(), 0.01, 1, weight_decay=0.1)
    optimizer = EndToEndSGD([p], lr=0.01, depth=2, weight_decay=0.1)
    for step, depth in enumerate((2, 1, 3, math.inf, 1, 2.5)):
        optimizer.param_groups[0]["depth"] = truth.depth = depth
        p.grad = random_tensor((4, 3), step)
        truth.step(p.grad.numpy())
        optimizer.step()
        close(p, truth.weight)


def test_momentum_goes_over_from_one_depth_to_another() -> None:
    p = nn.Parameter(random_tensor((4, 3), 0))
    truth = Truth(p.detach().numpy().copy(), 0.01, 3, momentum=0.9, dampening=0.3)
    optimizer = EndToEndSGD([p], lr=0.01, depth=3, momentum=0.9, dampening=0.3)
    for step, depth in enumerate((3, 3, 1, 1, 2)):
        optimizer.param_groups[0]["depth"] = truth.depth = depth
        p.grad = random_tensor((4, 3), step)
        truth.step(p.grad.numpy())
        optimizer.step()
        close(p, truth.weight)


def test_the_tolerance_of_the_rank_is_the_groups() -> None:
    """What lies below it counts as 0: there P_W is that of the truncated matrix."""
    grad = random_tensor((3, 3), 1)
    weight = torch.diag(torch.tensor([1.0, 0.1, 1e-4], dtype=torch.float64))
    cut = weight.clone()
    cut[2, 2] = 0
    kept, truncated = (nn.Parameter(weight.clone()) for _ in range(2))
    optimizer = EndToEndSGD(
        [{"params": [kept]}, {"params": [truncated], "rtol": 1e-3}], lr=1.0, depth=3
    )
    for step, (of_kept, of_truncated) in enumerate(((weight, cut), (cut, weight))):
        if step:
            kept.data.copy_(weight)
            truncated.data.copy_(weight)
            optimizer.param_groups[0]["rtol"] = 1e-3
            optimizer.param_groups[1]["rtol"] = None
        kept.grad, truncated.grad = grad.clone(), grad.clone()
        optimizer.step()
        for p, seen in ((kept, of_kept), (truncated, of_truncated)):
            close(p, weight - torch.tensor(preconditioned(seen.numpy(), grad.numpy(), 3)))


def largest_gap(depth: int, lr: float, optimizer_depth: int, shape: tuple[int, int]) -> float:
    """How far one matrix strays from the product of N under gradient descent on least squares."""
    columns = shape[1]
    target = random_tensor(shape, 3)
    inputs = torch.linalg.qr(random_tensor((columns, columns), 4))[0] * torch.linspace(
        0.5, 1.5, columns, dtype=torch.float64
    )
    factors = balanced_factors(0.5 * random_tensor(shape, 5), depth)
    p = nn.Parameter(end_to_end_product(factors))
    optimizer = EndToEndSGD([p], lr=lr, depth=optimizer_depth)
    gap = 0.0
    for _ in range(round(1 / lr)):
        optimizer.zero_grad()
        ((p - target) @ inputs).square().sum().div(2).backward()
        optimizer.step()
        product = end_to_end_product(factors)
        slopes = factor_gradients_literally(factors, (product - target) @ inputs @ inputs.T)
        factors = [factor - lr * slope for factor, slope in zip(factors, slopes, strict=True)]
        product = end_to_end_product(factors)
        gap = max(gap, float((p.detach() - product).norm() / product.norm()))
    return gap


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 1)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_it_follows_the_explicit_network(depth: int, shape: tuple[int, int]) -> None:
    """The gap halves with the learning rate, and does not at any other depth."""
    coarse, fine = (largest_gap(depth, lr, depth, shape) for lr in (0.02, 0.01))
    assert 1.8 < coarse / fine < 2.2
    assert fine < 0.1
    wrong_coarse, wrong_fine = (largest_gap(depth, lr, depth - 1, shape) for lr in (0.02, 0.01))
    assert wrong_coarse / wrong_fine < 1.2
    assert wrong_fine > 2 * fine
