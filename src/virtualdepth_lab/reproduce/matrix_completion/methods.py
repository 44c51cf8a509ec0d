"""Ways to train a completion to a small loss: the published loop, and several with fewer steps.

Source: arXiv 1905.13655, appendix on the experiments (the step rule).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
import torch
from scipy.integrate import DOP853
from torch import Tensor

from virtualdepth.data import Completion
from virtualdepth.maths import end_to_end_product, precondition
from virtualdepth.optim import EndToEndSGD
from virtualdepth.theory import integrate_flow, minimise_over_factors

TRUTH = "the matrix itself"
NUCLEAR = "nuclear norm minimisation"
EXPLICIT = "explicit network, published loop"
SINGLE = "one matrix, published step rule"
FLOW = "one matrix, flow integrator"
FAST = "one matrix, flow, then L-BFGS"
AUTO = "one matrix, no learning rate"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Where a method ended.

    Attributes:
        weight: W at the end.
        loss: of ``weight``.
        evaluations: of the gradient.
        cpu_seconds: process time, of all threads.
        finished: whether the loss asked for was reached.
    """

    weight: Tensor
    loss: float
    evaluations: int
    cpu_seconds: float
    finished: bool


def explicit_loop(
    problem: Completion,
    factors: Sequence[Tensor],
    *,
    stop_loss: float,
    lr: float = 1e-3,
    max_steps: int = 100_000,
) -> Trained:
    r"""Train an explicit network, [W_1, ..., W_N], by the published loop, by backpropagation.

    One scalar step for all layers: :math:`\mathrm{lr} / (\sqrt{\hat v} + 10^{-4})`, v the running
    mean (0.99, bias-corrected) of the total squared gradient norm.
    """
    begin = process_time()
    layers = [factor.detach().clone().requires_grad_() for factor in factors]
    mean, loss, steps = 0.0, math.inf, 0
    while True:
        value = problem.loss(end_to_end_product(layers))
        loss = value.item()
        if loss <= stop_loss or steps == max_steps:
            break
        gradients = torch.autograd.grad(value, layers)
        steps += 1
        square = sum(float(torch.sum(gradient * gradient)) for gradient in gradients)
        mean = 0.99 * mean + 0.01 * square
        step = lr / (math.sqrt(mean / (1 - 0.99**steps)) + 1e-4)
        with torch.no_grad():
            for layer, gradient in zip(layers, gradients, strict=True):
                layer.sub_(gradient, alpha=step)
    weight = end_to_end_product([layer.detach() for layer in layers])
    return _trained(weight, loss, steps + 1, begin, stop_loss)


def single_loop(
    problem: Completion,
    start: Tensor,
    depth: float,
    *,
    stop_loss: float,
    lr: float = 1e-3,
    max_steps: int = 100_000,
) -> Trained:
    """Train one matrix by EndToEndSGD with the published step rule, ``step_scale="rms"``."""
    begin = process_time()
    weight = torch.nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, step_scale="rms")
    steps = 0
    while True:
        weight.grad, value = problem.objective(weight.detach())
        loss = float(value)
        if loss <= stop_loss or steps == max_steps:
            return _trained(weight.detach(), loss, steps + 1, begin, stop_loss)
        optimizer.step()
        steps += 1


def flow(
    problem: Completion,
    start: Tensor,
    depth: float,
    *,
    stop_loss: float,
    max_evaluations: int = 100_000,
) -> Trained:
    """Follow the gradient flow of one matrix by :func:`virtualdepth.theory.integrate_flow`."""
    begin = process_time()
    end = integrate_flow(
        problem.objective, start, depth, stop_loss=stop_loss, max_evaluations=max_evaluations
    )
    return _trained(end.weight, end.loss, end.evaluations, begin, stop_loss)


def flow_then_minimise(
    problem: Completion, start: Tensor, depth: int, *, stop_loss: float, max_evaluations: int
) -> Trained:
    """Follow the flow to a hundredth of the first loss, and leave the rest to L-BFGS.

    A flow that does not come so far ends there: L-BFGS leaves a saddle in any direction. Each of
    the two takes about ``max_evaluations`` at most.
    """
    begin = process_time()
    grown = 0.01 * float(problem.objective(start)[1])
    most = max_evaluations
    flow = integrate_flow(problem.objective, start, depth, stop_loss=grown, max_evaluations=most)
    if not flow.finished:
        return _trained(flow.weight, flow.loss, flow.evaluations, begin, stop_loss)
    end = minimise_over_factors(
        problem.objective, flow.weight, depth, stop_loss=stop_loss, max_evaluations=most
    )
    evaluations = flow.evaluations + end.evaluations
    return _trained(end.weight, end.loss, evaluations, begin, stop_loss)


def tight_flow(problem: Completion, start: Tensor, depth: float, *, stop_loss: float) -> Trained:
    """Integrate dW/dt = -P_W(G) in float64 by scipy's DOP853: slow, to compare with."""
    begin, shape, loss = process_time(), start.shape, math.inf

    def velocity(_: float, state: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> object:
        nonlocal loss
        weight = torch.from_numpy(state).view(shape)
        grad, value = problem.objective(weight)
        loss = float(value)
        return -precondition(weight, grad, depth).flatten().numpy()

    solver = DOP853(velocity, 0.0, start.flatten().numpy(), math.inf, rtol=1e-6, atol=1e-10)
    while loss > stop_loss and solver.status == "running":
        solver.step()
        # its last evaluation need not be at the end of the step
        loss = float(problem.objective(torch.from_numpy(solver.y).view(shape))[1])
    weight = torch.from_numpy(solver.y).view(shape)
    return _trained(weight, loss, solver.nfev, begin, stop_loss)


def auto(
    problem: Completion,
    start: Tensor,
    depth: float,
    *,
    stop_loss: float,
    cap: float = 0.05,
    max_evaluations: int = 10_000,
) -> Trained:
    """Train one matrix without a learning rate, by ``EndToEndSGD(..., step_scale="auto")``.

    ``cap`` is the largest relative change of a singular value in a step.
    """
    begin = process_time()
    weight = torch.nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], depth=depth, step_scale="auto", cap=cap)
    loss, evaluations = math.inf, 0

    def closure() -> float:
        nonlocal loss, evaluations
        weight.grad, value = problem.objective(weight.detach())
        loss, evaluations = float(value), evaluations + 1
        if loss <= stop_loss:
            weight.grad = None  # the weight stays where it is
        return loss

    while loss > stop_loss and evaluations < max_evaluations:
        end = weight.detach().clone()
        optimizer.step(closure)
    return _trained(end, loss, evaluations, begin, stop_loss)


def _trained(
    weight: Tensor, loss: float, evaluations: int, begin: float, stop_loss: float
) -> Trained:
    return Trained(
        weight=weight,
        loss=loss,
        evaluations=evaluations,
        cpu_seconds=process_time() - begin,
        finished=loss <= stop_loss,
    )
