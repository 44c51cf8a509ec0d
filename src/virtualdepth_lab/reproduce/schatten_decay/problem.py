r"""Least squares with a low-rank answer, and three ways to penalise rank.

.. math:: \min_W \tfrac{1}{2 k} \|X W^\top - Y\|_F^2
    + \lambda \tfrac N2 \|W\|_{S_{2/N}}^{2/N}

At N = 2 it is convex: the penalty is the nuclear norm.
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import cvxpy as cp
import torch
from torch import Tensor, nn

from virtualdepth import EndToEndSGD, decay_penalty
from virtualdepth_lab.reproduce.convex import shrink

T = TypeVar("T")

ROWS, COLUMNS, RANK, SAMPLES, NOISE = 12, 16, 3, 40, 0.5


class Problem(NamedTuple):
    """A draw: inputs (k, n), targets (k, m), and the matrix (m, n) that made them."""

    inputs: Tensor
    targets: Tensor
    truth: Tensor

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Return X^T X / k and Y^T X / k: the gradient is W times the first, minus the second."""
        count = len(self.inputs)
        return self.inputs.mT @ self.inputs / count, self.targets.mT @ self.inputs / count

    def loss(self, weight: Tensor) -> float:
        """Compute the loss without the penalty."""
        residual = self.inputs @ weight.mT - self.targets
        return residual.square().sum().item() / (2 * len(self.inputs))

    def objective(self, weight: Tensor, decay: float, depth: float) -> float:
        """Compute the loss with the penalty."""
        return self.loss(weight) + decay * decay_penalty(weight, depth).item()

    def largest_decay(self) -> float:
        """Find the least lambda at which W = 0 is the answer for N = 2."""
        largest: float = torch.linalg.matrix_norm(self.moments[1], 2).item()
        return largest


def make_problem(seed: int) -> Problem:
    """Draw a Gaussian W of rank 3 and norm 12^(1/2), inputs, and noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    truth = normal(ROWS, RANK) @ normal(RANK, COLUMNS)
    truth *= ROWS**0.5 / truth.norm()
    inputs = normal(SAMPLES, COLUMNS)
    return Problem(inputs, inputs @ truth.mT + NOISE * normal(SAMPLES, ROWS), truth)


def convex_solution(problem: Problem, decay: float) -> Tensor:
    """Minimise loss plus lambda times the nuclear norm, by an interior-point method."""
    programme: Any = cp  # whose functions are not all typed
    basis, triangle = torch.linalg.qr(problem.inputs)  # fewer numbers, for accuracy
    unknown = cp.Variable(problem.truth.shape)
    residual = triangle.numpy() @ unknown.T - (basis.mT @ problem.targets).numpy()
    loss = programme.sum_squares(residual) / (2 * len(problem.inputs))
    whole = programme.Problem(programme.Minimize(loss + decay * programme.normNuc(unknown)))
    whole.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return torch.from_numpy(unknown.value)


def decayed_steps(problem: Problem, decay: float, depth: float) -> Iterator[Tensor]:
    """Train one matrix with weight decay at a depth, from a random start; yield it each step."""
    gram, cross = problem.moments
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(problem.truth.shape, generator=generator, dtype=torch.float64)
    fitted = torch.linalg.solve(gram, cross, left=False)
    start *= torch.linalg.matrix_norm(fitted, 2) / torch.linalg.matrix_norm(start, 2)
    weight = nn.Parameter(start)
    # the inverse of a bound on the largest curvature that the rule sees
    largest, curvature = (torch.linalg.matrix_norm(each, 2).item() for each in (start, gram))
    lr = 1 / (curvature * depth * largest ** (2 - 2 / depth))
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, weight_decay=decay)
    while True:
        weight.grad = weight.detach() @ gram - cross
        optimizer.step()
        yield weight.detach()


def proximal_steps(problem: Problem, decay: float) -> Iterator[Tensor]:
    """Take accelerated proximal gradient steps (FISTA) for N = 2; yield each iterate.

    Source: Toh and Yun 2010, with the weights of Beck and Teboulle 2009.
    """
    gram, cross = problem.moments
    step = 1 / torch.linalg.matrix_norm(gram, 2).item()
    weight = ahead = torch.zeros_like(problem.truth)
    inertia = 1.0
    while True:
        following = shrink(ahead - step * (ahead @ gram - cross), step * decay)
        larger = (1 + (1 + 4 * inertia**2) ** 0.5) / 2
        ahead = following + (inertia - 1) / larger * (following - weight)
        weight, inertia = following, larger
        yield weight


def steps_to(steps: Iterator[T], excess: Callable[[T], float], most: int) -> int | None:
    """Count the steps until an excess is 0 or less; None where ``most`` do not suffice."""
    for count, found in enumerate(islice(steps, most), start=1):
        if excess(found) <= 0:
            return count
    return None


def seconds_of(steps: Iterator[Tensor], count: int) -> float:
    """Take so many steps and return their processor time."""
    start = time.process_time()
    for _ in range(count):
        next(steps)
    return time.process_time() - start


def rank_of(weight: Tensor) -> int:
    """Count the singular values above 1e-4 of the largest."""
    sigma = torch.linalg.svdvals(weight)
    return int((sigma > 1e-4 * sigma[0].clamp_min(1e-4)).sum())
