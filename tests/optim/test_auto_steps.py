"""Whole runs of ``step_scale="auto"`` beside the rule written literally, with dense matrices."""

import math
from collections import Counter, deque
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, everything
from tests.maths.matrices import gaussian
from torch import Tensor

import virtualdepth as vd
from virtualdepth.maths import balanced_factors, end_to_end_product
from virtualdepth.maths._reference import factor_gradients_literally

FLOOR = 1e-2
SHAPES = {"one": [(3, 3)], "two": [(3, 3), (2, 2)]}


class Quadratic:
    """<R, H R> / 2 of the residuals R of all matrices, or that of its sine, which is not convex."""

    def __init__(
        self, shapes: list[tuple[int, int]], wavy: bool, *, from_zero: bool = False
    ) -> None:
        self.shapes, self.wavy = shapes, wavy
        size = sum(m * n for m, n in shapes)
        root = gaussian(size, size, seed=1)
        self.hessian = root @ root.T / size + 0.05 * torch.eye(size, dtype=torch.float64)
        self.targets = [2 * torch.eye(*s).double() + 0.3 * gaussian(*s, seed=2) for s in shapes]
        self.starts = [t + 0.3 * gaussian(*t.shape, seed=3) for t in self.targets]
        if from_zero:
            self.starts = [torch.zeros_like(t) for t in self.targets]

    def loss(self, weights: list[Tensor]) -> Tensor:
        pairs = zip(weights, self.targets, strict=True)
        rest = torch.cat([(w - target).flatten() for w, target in pairs])
        value = rest @ self.hessian @ rest / 2
        return value + (4 * rest).sin().sum() if self.wavy else value

    def grads(self, weights: list[Tensor]) -> tuple[list[Tensor], float]:
        leaves = [w.detach().clone().requires_grad_() for w in weights]
        loss = self.loss(leaves)
        return list(torch.autograd.grad(loss, leaves)), loss.item()


def motion(weight: Tensor, grad: Tensor, depth: int, imbalance: float) -> Tensor:
    """P_W(G), as the layers of a network move their product."""
    layers = balanced_factors(weight, depth, imbalance=imbalance)
    moved = torch.zeros_like(weight)
    for j, velocity in enumerate(factor_gradients_literally(layers, grad)):
        moved += end_to_end_product([*layers[:j], velocity, *layers[j + 1 :]])
    return moved


def dense(weights: list[Tensor], depth: int, imbalance: float) -> Tensor:
    blocks = []
    for weight in weights:
        basis = torch.eye(weight.numel(), dtype=torch.float64).view(-1, *weight.shape)
        columns = [motion(weight, e, depth, imbalance).flatten() for e in basis]
        blocks.append(torch.stack(columns))
    return torch.block_diag(*blocks)


def flat(matrices: list[Tensor]) -> Tensor:
    return torch.cat([matrix.flatten() for matrix in matrices])


def unflat(vector: Tensor, like: list[Tensor]) -> list[Tensor]:
    pieces = vector.split([matrix.numel() for matrix in like])
    return [piece.view_as(matrix) for piece, matrix in zip(pieces, like, strict=True)]


def inverse_hessian(points: list[tuple[Tensor, Tensor]], metric: Tensor) -> Tensor | None:
    """BFGS by its formula, from the oldest of the steps that count to the newest."""
    known = []
    for (w, g), (w_before, g_before) in pairwise(points):
        s, y = w - w_before, g - g_before
        if s @ y <= 0:
            break
        known.append((s, y))
    if not known:
        return None
    s, y = known[0]
    inverse = (s @ y) / (y @ metric @ y) * metric
    for s, y in reversed(known):
        left = torch.eye(len(s), dtype=torch.float64) - torch.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)
    return inverse


def speed(weights: list[Tensor], flow: list[Tensor], least: float) -> float:
    """Of the singular values, relative, along the flow; with an imbalance also of zeros."""
    fastest = 0.0
    for weight, direction in zip(weights, flow, strict=True):
        u, sigma, vh = torch.linalg.svd(weight)
        along = (u * (direction @ vh.mT)).sum(0).abs()
        fastest = max(fastest, float((along / (sigma + least)).max()))
        if least > 0:
            eighth = float(torch.linalg.svdvals(direction).pow(8).sum().pow(1 / 8))
            fastest = max(fastest, eighth / (float(sigma[0]) + least))
    return fastest


def change(weights: list[Tensor], steps: list[Tensor], least: float) -> float:
    """Of the singular values, relative, at most, with what is left of each step from each r on."""
    largest = 0.0
    for weight, step in zip(weights, steps, strict=True):
        u, sigma, vh = torch.linalg.svd(weight)
        for r, value in enumerate(sigma):
            block = u[:, r:].T @ step @ vh[r:].T
            largest = max(largest, float(block.norm() / (value + FLOOR * sigma[0] + least)))
    return largest


def flow_step(
    weights: list[Tensor],
    grads: list[Tensor],
    depth: int,
    cap: float,
    longest: float | None = None,
    imbalance: float = 0.0,
) -> list[Tensor]:
    """Move balanced factors by their velocity half-way, under a frozen gradient."""
    moving = list(zip(weights, grads, strict=True))
    flow = [motion(w, g, depth, imbalance) for w, g in moving]
    least = imbalance ** (depth / 2)
    if longest is None:  # nothing is known of the curvature
        norms = zip(flow, weights, strict=True)
        longest = 1 / max(float(d.norm() / (w.norm() + least)) for d, w in norms)
    length = min(cap / speed(weights, flow, least), longest)
    steps = []
    for w, g in moving:
        factors = balanced_factors(w, depth, imbalance=imbalance)
        first = factor_gradients_literally(factors, g)
        half_way = [f - length / 2 * v for f, v in zip(factors, first, strict=True)]
        turned = factor_gradients_literally(half_way, g)
        moved = [f - length * v for f, v in zip(factors, turned, strict=True)]
        steps.append(w - end_to_end_product(moved))
    return steps


def stable_length(points: list[tuple[Tensor, Tensor]], metric: Tensor) -> float | None:
    if len(points) < 2:
        return None
    (w, g), (w_before, g_before) = points[:2]
    s, y = w - w_before, g - g_before
    return float((s @ y) / (y @ metric @ y)) if s @ y > 0 else None


def literal_run(
    problem: Quadratic, depth: int, cap: float, steps: int, imbalance: float = 0.0
) -> tuple[list[Tensor], Counter[str]]:
    weights, points, kinds, wait = problem.starts, [], Counter[str](), 0
    losses: deque[float] = deque(maxlen=10)
    for _ in range(steps):
        grads, loss = problem.grads(weights)
        if losses and loss > max(losses):
            kinds["back"] += 1
            weights = [
                (w + b) / 2 for w, b in zip(weights, unflat(points[0][0], weights), strict=True)
            ]
            points = points[:1]
            continue
        points = [(flat(weights), flat(grads)), *points][:6]
        metric = dense(weights, depth, imbalance)
        inverse = None if wait else inverse_hessian(points, metric)
        step = None if inverse is None else unflat(inverse @ flat(grads), weights)
        size = math.inf if step is None else change(weights, step, imbalance ** (depth / 2))
        if step is not None and size <= 2 * cap:
            kinds["whole" if size <= cap else "shortened"] += 1
            step = [min(1, cap / size) * each for each in step]
        else:
            kinds["waited" if wait else "capped"] += 1
            wait = wait - 1 if wait else 4 if step is not None else 0
            longest = stable_length(points, metric)
            step = flow_step(weights, grads, depth, cap, longest, imbalance)
        losses.append(loss)
        weights = [w - d for w, d in zip(weights, step, strict=True)]
    return weights, kinds


class Run:
    """The same by the optimizer."""

    def __init__(self, problem: Quadratic, depth: int = 3, **options: Any) -> None:
        self.problem = problem
        self.weights = [torch.nn.Parameter(start.clone()) for start in problem.starts]
        self.optimizer = vd.EndToEndSGD(self.weights, depth=depth, step_scale="auto", **options)

    def closure(self) -> float:
        self.optimizer.zero_grad()
        loss = self.problem.loss(list(self.weights))
        loss.backward()
        return loss.item()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.step(self.closure)

    def ends(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.weights]


@pytest.mark.parametrize("wavy", [False, True])
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_the_rule_written_literally(shapes: list[tuple[int, int]], depth: int, wavy: bool) -> None:
    problem, cap = Quadratic(shapes, wavy), 0.1 if wavy else 0.3
    run = Run(problem, depth, cap=cap)
    expected, kinds = literal_run(problem, depth, cap, 25)
    run.steps(25)
    assert kinds["whole"] > 10
    assert kinds["capped"] > 0
    torch.testing.assert_close(run.ends(), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("from_zero", [False, True])
@pytest.mark.parametrize("imbalance", [0.1, 1.0])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_rule_of_unequal_layers_written_literally(
    depth: int, imbalance: float, from_zero: bool
) -> None:
    problem = Quadratic(SHAPES["two"], wavy=False, from_zero=from_zero)
    run = Run(problem, depth, cap=0.3, imbalance=imbalance)
    steps = 40 if from_zero else 25  # the cap lets it grow by three tenths a step
    expected, kinds = literal_run(problem, depth, 0.3, steps, imbalance)
    run.steps(steps)
    assert kinds["capped"] > 0
    assert kinds["whole"] + kinds["shortened"] > 4
    torch.testing.assert_close(run.ends(), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("depth", [2.0, 3.0, 2.5])
def test_unequal_layers_start_from_zero_and_end_at_the_minimum(depth: float) -> None:
    problem = Quadratic([(4, 3)], wavy=False, from_zero=True)
    run = Run(problem, depth, cap=0.1, imbalance=0.1)
    run.steps(1)
    first = torch.linalg.matrix_norm(run.ends()[0], 2)
    assert 0 < float(first) < 1.2 * 0.1 * 0.1 ** (depth / 2)  # a step of second order
    run.steps(200)
    assert run.closure() < 1e-6


@pytest.mark.parametrize("size", [2.0**-80, 2.0**60])
def test_unequal_layers_of_any_size(size: float) -> None:
    """W times c, with c^{2/N} lambda: the same run times c, though float32 has no such squares."""
    ends = []
    for unit in (1.0, size):
        weight = torch.nn.Parameter(torch.zeros(3, 3))
        target = unit * Quadratic([(3, 3)], wavy=False).targets[0].float()
        optimizer = vd.EndToEndSGD(
            [weight], depth=3, step_scale="auto", imbalance=0.1 * unit ** (2 / 3)
        )
        for _ in range(20):
            weight.grad = weight.detach() - target
            optimizer.step()
        ends.append(weight.detach() / unit)
    assert float(ends[0].norm()) > 0.05  # of a start at 0
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-5)


def test_runs_with_every_kind_of_step() -> None:
    # of those above: else some would go unchecked
    _, kinds = literal_run(Quadratic(SHAPES["one"], wavy=False), 3, 0.3, 25)
    assert kinds["back"] == 1
    _, kinds = literal_run(Quadratic(SHAPES["two"], wavy=True), 3, 0.1, 25)
    assert kinds["waited"] == 8
    assert kinds["shortened"] == 1


def test_packed_matrices_move_as_those_of_a_group() -> None:
    problem = Quadratic([(3, 2), (3, 2)], wavy=False)
    apart = Run(problem, cap=0.3)
    packed = torch.nn.Parameter(torch.cat(problem.starts))
    optimizer = vd.EndToEndSGD(
        [{"params": [packed], "blocks": 2}], depth=3, step_scale="auto", cap=0.3
    )

    def closure() -> float:
        grads, loss = problem.grads(list(packed.detach().split(3)))
        packed.grad = torch.cat(grads)
        return loss

    for _ in range(15):
        optimizer.step(closure)
    apart.steps(15)
    torch.testing.assert_close(packed.detach(), torch.cat(apart.ends()), rtol=1e-8, atol=1e-9)


def test_a_matrix_without_a_gradient_has_no_part() -> None:
    problem = Quadratic([(3, 3)], wavy=False)
    alone, other = Run(problem, cap=0.3), Run(problem, cap=0.3)
    idle = torch.nn.Parameter(torch.eye(2, dtype=torch.float64))
    other.optimizer = vd.EndToEndSGD([*other.weights, idle], depth=3, step_scale="auto", cap=0.3)
    for run in (alone, other):
        run.steps(12)
    torch.testing.assert_close(other.ends(), alone.ends(), rtol=0, atol=0)
    # when it gets one there is no secant of both: the step is the flow's
    (grad,), _ = problem.grads(other.ends())
    idle.grad = torch.ones_like(idle)
    weights = [*other.ends(), idle.detach().clone()]
    expected = flow_step(weights, [grad, idle.grad], 3, 0.3)
    other.optimizer.zero_grad(set_to_none=True)
    other.weights[0].grad, idle.grad = grad, torch.ones_like(idle)
    other.optimizer.step()
    moved = [w - now for w, now in zip(weights, [*other.ends(), idle.detach()], strict=True)]
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-10)


def test_state_is_two_times_five_matrices() -> None:
    run = Run(Quadratic([(3, 3)], wavy=False), cap=0.3)
    points = []
    for _ in range(7):
        points.append(run.ends()[0])
        run.steps(1)
    state = run.optimizer.state[run.weights[0]]
    held = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    assert len(held) == 10
    assert all(value.shape == (3, 3) for value in held.values())
    for age in range(5):
        (grad,), _ = run.problem.grads([points[6 - age]])
        assert_bitwise(held[f"auto_weight_{age}"], points[6 - age])
        torch.testing.assert_close(held[f"auto_grad_{age}"], grad, rtol=1e-12, atol=1e-12)


def test_a_step_that_fails_changes_nothing() -> None:
    run = Run(Quadratic(SHAPES["two"], wavy=False), cap=0.3)
    run.steps(8)
    loss = run.closure()
    run.weights[1].grad[0, 0] = float("nan")
    before = everything(run.weights, run.optimizer)
    with pytest.raises(FloatingPointError, match=r"^parameter 1 of group 0.*finite gradient"):
        run.optimizer.step(lambda: loss)
    assert_bitwise(everything(run.weights, run.optimizer), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions(dtype: torch.dtype) -> None:
    target = torch.eye(4) + 0.3 * gaussian(4, 4, seed=2, dtype=torch.float32)
    weight = torch.nn.Parameter((0.5 * torch.eye(4)).to(dtype))
    optimizer = vd.EndToEndSGD([weight], depth=3, step_scale="auto")

    def closure() -> float:
        weight.grad = (weight.detach().float() - target).to(dtype)
        return float(weight.grad.float().square().sum() / 2)

    first = closure()
    for _ in range(60):
        optimizer.step(closure)
    assert closure() < 0.01 * first
    # where all is rounding no curvature tells how far to go, and a step by the cap would leave
    for _ in range(60):
        assert optimizer.step(closure) < 1e-3 * first
    assert weight.dtype is dtype


@pytest.mark.parametrize("loss", [torch.ones(2), "low", [0.3]], ids=str)
def test_a_loss_that_is_no_number_is_refused(loss: Any) -> None:
    run = Run(Quadratic(SHAPES["one"], wavy=False))
    run.closure()
    with pytest.raises(TypeError, match=r"loss: expected a number from the closure .* return"):
        run.optimizer.step(lambda: loss)
