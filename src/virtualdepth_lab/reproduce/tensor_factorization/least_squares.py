"""Masked alternating least squares: the same completion without gradient descent."""

import time

import torch
from torch import Tensor

from virtualdepth.networks import CPTensor, init
from virtualdepth_lab.reproduce.tensor_factorization.problem import Completion

RIDGE = 1e-10  # of the mean square of the design, so that a step is determined


@torch.no_grad()
def alternate(
    problem: Completion,
    components: int,
    *,
    sweeps: int,
    share: float,
    restarts: int,
    generator: torch.Generator,
) -> tuple[Tensor, float, int, float]:
    """Fit each axis in turn by least squares on the seen entries, from new starts if need be.

    Returns the best tensor, its share, the number of starts, and CPU seconds.
    """
    tick = time.process_time()
    indices = problem.seen.nonzero().T
    values = problem.truth[tuple(indices)].double()
    best, least = torch.zeros_like(problem.truth), float("inf")
    starts = 0
    while least >= share and starts < restarts:
        starts += 1
        model = CPTensor(tuple(problem.truth.shape), components, dtype=torch.float64)
        init.balanced_(model, float(problem.truth.norm()) / components, generator=generator)
        factors = [factor.clone() for factor in model.factors]
        for _ in range(sweeps):
            for axis in range(len(factors)):
                factors[axis] = _fitted(factors, axis, indices, values)
            for factor, found in zip(model.factors, factors, strict=True):
                factor.copy_(found)
            left = float((model(indices.T) - values).square().sum())
            left /= float(values.square().sum())
            if left < share:
                break
        if left < least:
            best, least = model.tensor(), left
    return best, least, starts, time.process_time() - tick


def _fitted(factors: list[Tensor], axis: int, indices: Tensor, values: Tensor) -> Tensor:
    """Solve for the factor (R, d) of one axis, given the others."""
    others = [
        factor[:, index]
        for place, (factor, index) in enumerate(zip(factors, indices, strict=True))
        if place != axis
    ]
    design = torch.stack(others).prod(0).T  # (seen, R)
    components, size = factors[axis].shape
    normal = torch.zeros(size, components, components, dtype=values.dtype)
    normal.index_add_(0, indices[axis], design.unsqueeze(-1) * design.unsqueeze(-2))
    wanted = torch.zeros(size, components, dtype=values.dtype)
    wanted.index_add_(0, indices[axis], design * values.unsqueeze(-1))
    ridge = RIDGE * normal.diagonal(dim1=-2, dim2=-1).mean()
    normal += ridge * torch.eye(components, dtype=values.dtype)
    solved: Tensor = torch.linalg.solve(normal, wanted)
    return solved.T
