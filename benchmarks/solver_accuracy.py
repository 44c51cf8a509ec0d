"""(c) How accurate is each solver along a run, and what does the run cost?

error = ||D - P||_F / ||P||_F at every few steps, D the direction of the optimizer in float32, P the
formula in float64 of the same weight and gradient, by a full SVD; the optimizer drives the weights.
"layers" is no such direction but the discrete network: its error is ||W - W'||_F / ||W'||_F against
the explicit network in float64. cost = mean and median over all steps, the first left out, in
products of the same run.
"""

import argparse
import copy
from functools import partial
from statistics import median
from typing import Any

import torch
from common import Row
from speed_common import (
    Job,
    alone,
    counts,
    product,
    quantile,
    seconds,
    solvers_at,
)
from torch import Tensor

import virtualdepth as vd

# start, sides in units of d, samples of a batch (0: all of 4 d), learning rate
TRAJECTORIES: dict[str, tuple[str, tuple[int, int], int, float]] = {
    "regression": ("torch", (1, 1), 0, 0.1),
    "completion": ("torch", (1, 1), 0, 0.1),
    "regression, 4:1": ("torch", (4, 1), 0, 0.1),
    "identity": ("identity", (1, 1), 0, 0.1),
    "near-zero": ("near-zero", (1, 1), 0, 0.2),
    "low rank": ("low rank", (1, 1), 0, 0.05),
    "clusters": ("clusters", (1, 1), 0, 0.1),
    "hot mini-batches": ("torch", (1, 1), 32, 0.05),
}
RANK = 5


def orthogonal(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


def start_of(kind: str, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    if kind == "identity":
        return torch.eye(*shape)
    if kind == "near-zero":
        return 0.05 * torch.randn(shape, generator=generator) / shape[1] ** 0.5
    if kind == "low rank":
        left, right = (torch.randn(side, RANK, generator=generator) for side in shape)
        return left @ right.T / (shape[0] * shape[1]) ** 0.5
    if kind == "clusters":  # four singular values, each on a quarter of the directions
        sigma = torch.tensor([1.2, 0.8, 0.4, 0.1]).repeat_interleave(shape[0] // 4)
        return orthogonal(shape[0], generator) * sigma @ orthogonal(shape[1], generator)
    return (torch.rand(shape, generator=generator) * 2 - 1) / shape[1] ** 0.5


class Problem:
    """Gradients of least squares: all samples, a batch of them, or observed entries."""

    def __init__(self, name: str, size: int, lr: float | None, device: str) -> None:
        self.kind, sides, self.batch, rate = TRAJECTORIES[name]
        self.lr = rate if lr is None else lr
        self.generator = torch.Generator().manual_seed(1)
        rows, columns = (side * size for side in sides)
        self.weight = start_of(self.kind, (rows, columns), self.generator).to(device)
        if name == "completion":
            truth = start_of("low rank", (rows, columns), self.generator)
            mask = torch.rand(rows, columns, generator=self.generator) < 0.3
            self.truth, self.mask = truth.to(device), mask.to(device)
            return
        self.mask = None
        truth = start_of("torch", (rows, columns), self.generator)
        inputs = torch.randn(columns, 4 * columns, generator=self.generator)
        noise = 0.3 * torch.randn(rows, 4 * columns, generator=self.generator)
        self.inputs, self.targets = inputs.to(device), (truth @ inputs + noise).to(device)

    def gradient(self, weight: Tensor, step: int) -> Tensor:
        if self.mask is not None:
            return (weight - self.truth) * self.mask / 0.3
        inputs, targets = self.inputs, self.targets
        if self.batch:
            order = torch.randperm(inputs.shape[1], generator=torch.Generator().manual_seed(step))
            chosen = order[: self.batch]
            inputs, targets = inputs[:, chosen], targets[:, chosen]
        return (weight @ inputs - targets) @ inputs.T / inputs.shape[1]


def exact(weight: Tensor, grad: Tensor, depth: int) -> Tensor:
    """Sum over j of (W W^T)^{(N-j)/N} G (W^T W)^{(j-1)/N}, from a full SVD in float64."""
    u, s, vh = torch.linalg.svd(weight.double())
    left, right = (torch.zeros(side, 1, dtype=s.dtype, device=s.device) for side in weight.shape)
    left[: len(s), 0], right[: len(s), 0] = s, s
    powers = range(depth)
    kernel = sum(left ** (2 * (depth - 1 - j) / depth) * right.T ** (2 * j / depth) for j in powers)
    return u @ (kernel * (u.T @ grad.double() @ vh.T)) @ vh


def direction(optimizer: torch.optim.Optimizer, grad: Tensor) -> Tensor:
    """What the next step would take, as a copy's momentum buffer shows it; nothing changes."""
    shadow = copy.deepcopy(optimizer)
    (group,) = shadow.param_groups
    (weight,) = group["params"]
    weight.grad = grad
    group["momentum"] = group["momentum"] or 1e-30
    before = shadow.state[weight].get("momentum_buffer", torch.zeros(())).double().clone()
    shadow.step()
    return shadow.state[weight]["momentum_buffer"].double() - group["momentum"] * before.to(grad)


class Network:
    """The explicit network in float64 under gradient descent, beside a run of "layers"."""

    def __init__(self, weight: Tensor, depth: int, momentum: float) -> None:
        self.factors = vd.balanced_factors(weight.double(), depth)
        self.optimizer = torch.optim.SGD(self.factors, lr=0.0, momentum=momentum)

    def step(self, grad: Tensor, lr: float) -> None:
        before, after = [torch.eye(self.factors[0].shape[1])], [torch.eye(grad.shape[0])]
        for factor in self.factors[:-1]:
            before.append(factor @ before[-1].to(factor))
        for factor in reversed(self.factors[1:]):
            after.append(after[-1].to(factor) @ factor)
        for factor, inside, outside in zip(self.factors, before, reversed(after), strict=True):
            factor.grad = outside.to(factor).T @ grad.double() @ inside.to(factor).T
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()

    def gap(self, weight: Tensor) -> float:
        truth = vd.end_to_end_product(self.factors)
        return float((weight.double() - truth).norm() / truth.norm())


def measure(
    name: str,
    size: int,
    lr: float | None,
    depth: int,
    solver: str,
    momentum: float,
    steps: int,
    device: str,
    frequency: int = 1,
) -> list[Row]:
    problem = Problem(name, size, lr, device)
    lr = problem.lr * (1 - momentum)
    weight = torch.nn.Parameter(problem.weight.clone())
    optimizer = vd.EndToEndSGD(
        [weight],
        lr,
        depth=depth,
        solver=solver,
        momentum=momentum,
        precondition_frequency=frequency,
    )
    network = Network(problem.weight, depth, momentum) if solver == "layers" else None
    unit = product(tuple(weight.shape), device)
    errors, times, units, moves = [], [], [], []
    every = max(1, steps // min(20, 5000 // size))  # a float64 SVD of 1024 x 1024 takes seconds
    for step in range(steps):
        grad = problem.gradient(weight.detach(), step)
        if network is not None:
            truth = vd.end_to_end_product(network.factors).to(grad)
            network.step(problem.gradient(truth, step), lr)
        elif step % every == every - 1:
            truth = exact(weight.detach(), grad, depth)
            errors.append(float((direction(optimizer, grad) - truth).norm() / truth.norm()))
        weight.grad, before = grad, weight.detach().clone()
        units.append(unit())
        times.append(seconds(optimizer.step, device))
        moves.append(float((weight.detach() - before).norm() / before.norm()))
        if network is not None:
            errors.append(network.gap(weight.detach()))
    one, (decomposed, resynchronised) = median(units), counts(optimizer)
    return [
        {
            "trajectory": name,
            "lr": problem.lr,
            "d": size,
            "depth": depth,
            "solver": solver,
            "momentum": momentum,
            "steps": steps,
            "step, % of W": 100 * median(moves),
            "error, median": median(errors),
            "p95": quantile(errors, 0.95),
            "largest": max(errors),
            "cost, mean": sum(times[1:]) / len(times[1:]) / one,
            "cost, median": median(times[1:]) / one,
            "decomposed": decomposed,
            "resynchronised": resynchronised,
        }
    ]


def plan(options: argparse.Namespace) -> list[tuple[Any, ...]]:
    """Sizes, steps, trajectories, learning rates (None: the trajectory's own), depths, momenta."""
    runs = ("regression", "completion")
    if options.quick:
        return [(32, 10, tuple(TRAJECTORIES), (None,), (2, 3), (0.0,))]
    if options.device == "cuda":
        return [(d, 40, runs, (0.01, 0.001), (3,), (0.0,)) for d in (1024, 2048, 4096)]
    return [
        (128, 80, tuple(TRAJECTORIES), (None,), (2, 3), (0.0,)),
        (256, 60, runs, (0.1, 0.01, 0.001), (3,), (0.0,)),
        (256, 60, runs, (0.001,), (3,), (0.9,)),
        (512, 40, runs, (0.01, 0.001), (3,), (0.0,)),
        (512, 40, runs, (0.001,), (3,), (0.9,)),
        (1024, 16, runs, (0.001,), (3,), (0.0,)),
    ]


def jobs(options: argparse.Namespace) -> list[Job]:
    return [
        partial(measure, name, size, lr, depth, solver, momentum, steps, options.device)
        for size, steps, names, rates, depths, momenta in plan(options)
        for name in names
        for lr in rates
        for depth in depths
        for momentum in momenta
        for solver in solvers_at(depth)
        # the large ones for what has a target along a run
        if size < 512 or solver == "tracked" or options.device == "cuda"
    ]


if __name__ == "__main__":
    alone(__doc__, jobs)
