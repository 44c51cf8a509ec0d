"""The largest singular values along training: of one matrix, of the explicit network, in theory."""

import torch
from torch import Tensor

from virtualdepth.data import Completion
from virtualdepth.maths import balanced_factors
from virtualdepth.optim import EndToEndSGD
from virtualdepth_lab.reproduce.network import descend

TOP = 10
EVERY = 10


def single_trajectory(
    problem: Completion, start: Tensor, depth: int, lr: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Train one matrix; return singular values and slopes at every tenth step, (records, 10)."""
    weight = torch.nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, step_scale="raw")
    values, slopes = [], []
    for step in range(steps + 1):
        weight.grad, _ = problem.objective(weight.detach())
        if step % EVERY == 0:
            u, sigma, vh = torch.linalg.svd(weight.detach(), full_matrices=False)
            values.append(sigma[:TOP])
            slopes.append((u * (weight.grad @ vh.mT)).sum(0)[:TOP])
        if step < steps:
            optimizer.step()
    return torch.stack(values), torch.stack(slopes)


def explicit_trajectory(
    problem: Completion, start: Tensor, depth: int, lr: float, steps: int
) -> Tensor:
    """Train balanced factors by gradient descent; return singular values, (records, 10)."""
    weights = descend(balanced_factors(start, depth), lambda w: problem.objective(w)[0], lr)
    return torch.stack(
        [
            torch.linalg.svdvals(weight)[:TOP]
            for step, weight in zip(range(steps + 1), weights, strict=False)
            if step % EVERY == 0
        ]
    )


def theory_trajectory(start: Tensor, slopes: Tensor, depth: int, time: float) -> Tensor:
    r"""Solve :math:`\dot\sigma_r = -N \sigma_r^{2-2/N} c_r(t)` for measured slopes c_r.

    ``start`` holds the singular values at time 0, (k,), ``slopes`` holds c_r = <G, u_r v_r^T>,
    (records, k), ``time`` is the time between records. Returns (records, k). In the variable
    :math:`\sigma^{2/N - 1}` (its logarithm at N = 2) the right-hand side is free of :math:`\sigma`:
    what remains is the integral of the slopes, taken by the trapezoidal rule.

    Source: arXiv 1905.13655, Theorem 3.

    >>> theory_trajectory(torch.tensor([1.0]), -torch.ones(3, 1), 2, 0.5)[-1]  # exp(2 t), t = 1
    tensor([7.3891])
    """
    integral = torch.cumulative_trapezoid(slopes, dim=0)
    area = torch.cat([torch.zeros_like(slopes[:1]), integral]) * time
    if depth == 2:
        return start * torch.exp(-2 * area)
    power = 2 / depth - 1
    # a singular value that the theory sends through 0 (only at N = 1) shows as its absolute value
    transformed = start.pow(power) - (2 - depth) * area
    return transformed.abs().pow(1 / power)
