"""Methods that choose their own step: Barzilai-Borwein and L-BFGS, one run each."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression

MEMORY = 10


def barzilai_borwein(
    problem: LpRegression, start: Tensor, steps: int, *, long: bool = False
) -> list[float]:
    r"""Descend along -g by Barzilai and Borwein's step, halved where the loss rises too high.

    The step is :math:`\langle\Delta w,\Delta g\rangle/\|\Delta g\|^2`, or the long one,
    :math:`\|\Delta w\|^2/\langle\Delta w,\Delta g\rangle`. A point whose loss exceeds the largest
    of the last ten is refused and the step halved. The first step moves w by 0.01. ``steps``
    counts evaluations, refused points included. Returns steps + 1 losses: after every evaluation
    that of the last accepted point.
    """
    weight = start.unsqueeze(0)
    grad, loss = problem.objective(weight)
    length = 0.01 / grad.norm()
    losses, recent = [loss.item()], deque([loss.item()], maxlen=MEMORY)
    for _ in range(steps):
        candidate = weight - length * grad
        there, value = problem.objective(candidate)
        if not value.item() <= max(recent):
            length = length / 2
        else:
            length = _secant_length(candidate - weight, there - grad, length, long=long)
            weight, grad, loss = candidate, there, value
            recent.append(value.item())
        losses.append(loss.item())
    return losses


def _secant_length(step: Tensor, change: Tensor, length: Tensor, *, long: bool) -> Tensor:
    curvature = (step * change).sum()
    if not curvature > 0:  # w did not move by more than rounding
        return length
    return step.square().sum() / curvature if long else curvature / change.square().sum()


def lbfgs(problem: LpRegression, start: Tensor, steps: int) -> list[float]:
    """Return the loss at every evaluation of scipy's L-BFGS-B; it may stop before ``steps``.

    It remembers ten steps. Evaluations in line searches count.
    """
    losses: list[float] = []

    def loss_and_grad(point: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> object:
        grads, values = problem.objective(torch.from_numpy(point)[None, None])
        losses.append(values.item())
        return values.item(), grads.flatten().numpy()

    minimize(
        loss_and_grad,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": steps, "maxiter": steps, "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0},
    )
    return losses[: steps + 1]


def hits(losses: list[float], targets: list[float]) -> Iterator[int | None]:
    """Yield the evaluations until the loss was at most each target; None if it never was.

    >>> list(hits([4.0, 2.0, 3.0], [2.5, 1.0]))
    [1, None]
    """
    for target in targets:
        yield next((count for count, loss in enumerate(losses) if loss <= target), None)
