"""From lazy to rich by imbalance: how far the tangent kernel turns while a network learns.

Source: Domine et al., ICLR 2025, arXiv 2409.14623 (two layers); here also three.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    depth_kernel,
    end_to_end_product,
    precondition,
)
from virtualdepth_lab.reproduce.result import Record

SIZE, START = 5, 0.02  # of W, and the deviation of an entry of W(0)
STEP, END, MOST = 0.05, 1e-3, 1500


def lazy_rows(
    seeds: Sequence[int], imbalances: Sequence[float], depths: Sequence[int] = (2, 3)
) -> Iterator[Record]:
    """Yield a row for each seed, depth and imbalance."""
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        start, target = torch.randn(2, SIZE, SIZE, generator=generator, dtype=torch.float64)
        target = target / torch.linalg.matrix_norm(target, 2)
        for depth in depths:
            for imbalance in imbalances:
                yield _row(seed, START * start, target, depth, imbalance)


def _row(seed: int, start: Tensor, target: Tensor, depth: int, imbalance: float) -> Record:
    """Train both on half of ||W - target||^2, to a thousandth of the loss."""
    largest = target.new_ones(())
    rate = STEP / float(depth_kernel(largest, largest, depth, imbalance))
    weight = start
    layers = balanced_factors(start, depth, imbalance=imbalance)
    first, first_of_layers = rule_kernel(weight, depth, imbalance), network_kernel(layers)
    optimizer = torch.optim.SGD([layer.requires_grad_() for layer in layers], lr=rate)
    begin, steps = (start - target).square().sum(), 0
    while (weight - target).square().sum() > END * begin and steps < MOST:
        grad = weight - target
        weight = weight - rate * precondition(weight, grad, depth, imbalance=imbalance)
        optimizer.zero_grad()
        off = end_to_end_product(layers) - target
        (off.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps += 1
    last = network_kernel([layer.detach() for layer in layers])
    return {
        "part": "lazy to rich",
        "depth": depth,
        "imbalance": imbalance,
        "seed": seed,
        "steps": steps,
        "kernel_distance": distance(first, rule_kernel(weight, depth, imbalance)),
        "of_the_network": distance(first_of_layers, last),
        "kernels_apart": float((first - first_of_layers).norm() / first_of_layers.norm()),
    }


def distance(first: Tensor, last: Tensor) -> float:
    """Compute 1 - <A, B> / (||A|| ||B||), from 0 (parallel) to 1 (orthogonal)."""
    return 1 - float((first * last).sum() / (first.norm() * last.norm()))


def rule_kernel(weight: Tensor, depth: float, imbalance: float) -> Tensor:
    """Build the matrix of P_W: the tangent kernel of W where the inputs are the unit vectors."""
    units = torch.eye(weight.numel(), dtype=weight.dtype).view(-1, *weight.shape)
    many = weight.expand_as(units)
    return precondition(many, units, depth, imbalance=imbalance).flatten(1)


def network_kernel(layers: Sequence[Tensor]) -> Tensor:
    """Build the tangent kernel J J^T of the explicit network by automatic differentiation."""

    def product(*factors: Tensor) -> Tensor:
        return end_to_end_product(factors).flatten()

    jacobian = torch.autograd.functional.jacobian
    jacobians = jacobian(product, tuple(layers))  # type: ignore[no-untyped-call]
    flat = torch.cat([each.flatten(1) for each in jacobians], dim=1)
    return flat @ flat.T
