"""The gradient flow of a deep linear network on its end-to-end matrix, by an adaptive integrator.

Source: arXiv 1802.06509, Theorem 1 (the flow); the integrator is scipy's RK23, Bogacki and
Shampine's pair of orders 3 and 2. The flow ends in a stiff tail, where stability and not accuracy
bounds the step: there a low order costs the fewest gradients.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import RK23
from torch import Tensor

from virtualdepth.maths import check_depth
from virtualdepth.theory._coordinates import (
    Coordinates,
    EndToEndCoordinates,
    FactorCoordinates,
    Objective,
)


@dataclass(frozen=True, kw_only=True)
class FlowResult:
    """Where the flow ended.

    Attributes:
        weight: W at the end, in the shape and dtype of the start.
        time: how long it flowed.
        loss: of ``weight``.
        evaluations: of the gradient.
        finished: whether it reached ``time`` or ``stop_loss`` within ``max_evaluations``.
    """

    weight: Tensor
    time: float
    loss: float
    evaluations: int
    finished: bool


def integrate_flow(
    objective: Objective,
    weight: Tensor,
    depth: float,
    time: float = math.inf,
    *,
    stop_loss: float | None = None,
    rtol: float = 2e-4,
    max_evaluations: int = 100_000,
) -> FlowResult:
    r"""Follow :math:`dW/dt = -P_W(\nabla l(W))` for a time, or until the loss is small enough.

    At integer depth one SVD at the start gives balanced factors, whose own gradient flow is
    integrated, by matrix products alone, and multiplied out at the end. At real and infinite depth
    W itself is integrated, with one SVD an evaluation.

    An accepted step has an estimated error of about :math:`\tau` times the root mean square of what
    is integrated, :math:`\tau = \mathrm{rtol} \cdot \min(1, \sqrt{l / l_0})`. It shrinks with the
    loss, since errors of a fixed size would keep the end from converging. A loss that is not
    positive counts as one that has not fallen. The gradient is computed in the dtype of ``weight``,
    everything else in float64.

    Args:
        objective: W -> (gradient, loss); ``torch.func.grad_and_value(loss)`` makes one from any
            differentiable loss.
        weight: the start W(0), (m, n), finite.
        depth: number of layers N, real, 1 <= N <= inf; at inf time is rescaled by 1/N.
        time: how long to flow, > 0; may be infinite if ``stop_loss`` is given.
        stop_loss: end as soon as the loss is at most this.
        rtol: relative tolerance of a step where the loss has not fallen yet, > 0.
        max_evaluations: end after about this many gradients.

    Returns:
        The end; ``finished`` says whether ``time`` or ``stop_loss`` was reached.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if an argument is out of range.
        FloatingPointError: if loss or gradient is not finite along the flow, or changes too fast
            for any step.
        torch.linalg.LinAlgError: if an SVD does not converge.

    Source: arXiv 1802.06509, Theorem 1.

    >>> target = torch.diag(torch.tensor([3.0, 1.0]))
    >>> start = 0.01 * torch.eye(2)
    >>> end = integrate_flow(lambda w: (w - target, (w - target).square().sum() / 2), start, 3, 2.0)
    >>> end.weight  # the larger singular value first
    tensor([[3.000, 0.000],
            [0.000, 0.051]])
    """
    depth = check_depth(depth)
    _check(weight, time, stop_loss, rtol)
    # products in half precision would be noise that no step is short enough for
    with torch.autocast(weight.device.type, enabled=False):
        return _follow(objective, weight, depth, time, stop_loss, rtol, max_evaluations)


def _follow(
    objective: Objective,
    weight: Tensor,
    depth: float,
    time: float,
    stop_loss: float | None,
    rtol: float,
    max_evaluations: int,
) -> FlowResult:
    """Integrate until the end; the arguments are valid."""
    coordinates: Coordinates
    if depth % 1 == 0:  # inf % 1 is NaN
        coordinates = FactorCoordinates(weight, int(depth))
    else:
        coordinates = EndToEndCoordinates(weight, depth)
    losses: list[float] = []

    def velocity(_: float, state: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> object:
        point = torch.from_numpy(state).to(weight)
        result, value = coordinates.velocity(point, objective)
        losses.append(float(value))
        # a trial step that is too long may overflow; from a start that does, no step is possible
        if len(losses) == 1 and not (math.isfinite(losses[0]) and torch.isfinite(result).all()):
            raise FloatingPointError(_not_followed(losses[0], 0.0))
        return result.double().cpu().numpy()

    state = coordinates.start.double().cpu().numpy()
    solver = RK23(velocity, 0.0, state, time, rtol=rtol, atol=rtol * _size(state))
    loss = losses[0]
    while (
        solver.status == "running"
        and solver.f.any()  # else it stays here forever
        and not _reached(loss, stop_loss)
        and len(losses) < max_evaluations
    ):
        tolerance = _tolerance(rtol, loss, losses[0], weight.dtype)
        # the solver reads both anew at each step
        solver.rtol, solver.atol = tolerance, tolerance * _size(solver.y)
        # a trial step that is too long may overflow; the solver then tries a shorter one
        with np.errstate(over="ignore", invalid="ignore"):
            solver.step()
        # the last evaluation of a step is at its end
        loss = losses[-1]
        if solver.status == "failed" or not math.isfinite(loss):
            raise FloatingPointError(_not_followed(loss, solver.t))
    reached = _reached(loss, stop_loss)
    end = solver.t if reached or solver.f.any() or math.isinf(time) else time
    return FlowResult(
        weight=coordinates.weight(torch.from_numpy(solver.y)).to(weight),
        time=end,
        loss=loss,
        evaluations=len(losses),
        finished=reached or end == time,
    )


def check_start(weight: Tensor) -> None:
    """Refuse a start that is not one finite matrix."""
    if weight.ndim != 2 or not torch.isfinite(weight).all():
        raise ValueError(
            f"weight: expected a finite matrix (m, n) but got shape {tuple(weight.shape)}"
            + ("" if weight.ndim != 2 else " with NaN or inf")
        )


def _check(weight: Tensor, time: float, stop_loss: float | None, rtol: float) -> None:
    """Refuse arguments that are out of range."""
    check_start(weight)
    if not time > 0:
        raise ValueError(f"time: expected a number > 0 or inf but got {time!r}")
    if math.isinf(time) and stop_loss is None:
        raise ValueError("stop_loss: expected a number where time is infinite but got None")
    if stop_loss is not None and not stop_loss >= 0:
        raise ValueError(f"stop_loss: expected None or a number >= 0 but got {stop_loss!r}")
    if not 0 < rtol < 1:
        raise ValueError(f"rtol: expected a number between 0 and 1 but got {rtol!r}")


def _reached(loss: float, stop_loss: float | None) -> bool:
    """Tell whether the loss is small enough to end."""
    return stop_loss is not None and loss <= stop_loss


def _not_followed(loss: float, time: float) -> str:
    """Word the error of a flow that cannot be followed."""
    return (
        f"objective: expected a flow that can be followed but got loss {loss} at time {time}, "
        "where loss or gradient is not finite or changes too fast for any step"
    )


def _tolerance(rtol: float, loss: float, first_loss: float, dtype: torch.dtype) -> float:
    """Compute the relative tolerance tau of the next step."""
    # a loss that may be negative does not say how near the end is
    fallen = loss / first_loss if loss > 0 and first_loss > 0 else 1.0
    # below this the rounding of the gradient alone exceeds the tolerance, and steps shrink to zero
    return min(rtol, max(rtol * math.sqrt(fallen), torch.finfo(dtype).eps / 4))


def _size(state: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """Compute the root mean square; 1 for zeros, for which a relative error has no meaning."""
    return float(np.sqrt(np.mean(np.square(state)))) or 1.0
