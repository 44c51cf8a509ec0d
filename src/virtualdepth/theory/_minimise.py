"""The end of a long flow, without following it: L-BFGS on balanced factors.

Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
Mathematical Programming 45, 1989; the code is scipy's.
"""

import math
from dataclasses import dataclass

import torch
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from virtualdepth.maths import check_depth
from virtualdepth.theory._coordinates import FactorCoordinates, Objective
from virtualdepth.theory._flow import check_start


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where the minimisation ended.

    Attributes:
        weight: W at the end, in the shape and dtype of the start.
        loss: of ``weight``.
        evaluations: of the gradient.
        finished: whether the loss is at most ``stop_loss``.
    """

    weight: Tensor
    loss: float
    evaluations: int
    finished: bool


def minimise_over_factors(
    objective: Objective,
    weight: Tensor,
    depth: int,
    *,
    stop_loss: float,
    max_evaluations: int = 10_000,
) -> Minimum:
    r"""Minimise a loss over balanced factors of W, starting where a flow has chosen its way.

    .. math:: \min_{W_1, \dots, W_N} l(W_N \cdots W_1), \qquad W_N \cdots W_1 = W
        \text{ at the start}

    Every step combines gradients by the factors, so it goes where gradient descent on them could
    go: rows and columns that the flow leaves small stay small. From a random start it has no bias
    to low rank. Start it where :func:`integrate_flow` has let all singular values grow that will
    grow, for instance at a hundredth of the first loss. From there it ends near the end of the
    flow, with a tenth of the gradients or fewer, since there the flow is stiff and a solver takes
    short steps.

    The gradient is computed in the dtype of ``weight``, everything else in float64.

    Args:
        objective: W -> (gradient, loss), as for :func:`integrate_flow`.
        weight: the start, (m, n), finite.
        depth: number of layers N, an integer.
        stop_loss: end as soon as the loss is at most this, >= 0.
        max_evaluations: end after about this many gradients.

    Returns:
        The end; not ``finished`` if no step reduces the loss further, or there were too many.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if an argument is out of range.
        FloatingPointError: if the loss is not finite.

    >>> target = torch.diag(torch.tensor([3.0, 1.0]))
    >>> start = 0.01 * torch.eye(2)
    >>> def objective(w):
    ...     return w - target, (w - target).square().sum() / 2
    >>> from virtualdepth.theory import integrate_flow
    >>> flow = integrate_flow(objective, start, 3, stop_loss=0.1)
    >>> end = minimise_over_factors(objective, flow.weight, 3, stop_loss=1e-8)
    >>> end.weight, end.finished
    (tensor([[3.000, 0.000],
            [0.000, 1.000]]), True)
    """
    depth = _integer(depth)
    check_start(weight)
    if not stop_loss >= 0:
        raise ValueError(f"stop_loss: expected a number >= 0 but got {stop_loss!r}")
    with torch.autocast(weight.device.type, enabled=False):
        return _minimise(objective, weight, depth, stop_loss, max_evaluations)


def _minimise(
    objective: Objective, weight: Tensor, depth: int, stop_loss: float, max_evaluations: int
) -> Minimum:
    """Run L-BFGS on the factors; the arguments are valid."""
    coordinates = FactorCoordinates(weight, depth)

    def loss_and_gradient(state: object) -> tuple[float, object]:
        velocity, loss = coordinates.velocity(torch.as_tensor(state).to(weight), objective)
        return float(loss), -velocity.double().cpu().numpy()

    def stop(intermediate_result: OptimizeResult) -> None:
        if intermediate_result.fun <= stop_loss:
            raise StopIteration

    found = minimize(
        loss_and_gradient,
        coordinates.start.double().cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=stop,
        options={"maxiter": max_evaluations, "maxfun": max_evaluations, "ftol": 0.0, "gtol": 0.0},
    )
    if not math.isfinite(found.fun):
        raise FloatingPointError(
            f"objective: expected a finite loss but got {found.fun} at or near the start"
        )
    return Minimum(
        weight=coordinates.weight(torch.from_numpy(found.x)).to(weight),
        loss=float(found.fun),
        evaluations=int(found.nfev),
        finished=bool(found.fun <= stop_loss),
    )


def _integer(depth: float) -> int:
    """Return an integer depth; refuse anything else."""
    checked = check_depth(depth)
    if math.isinf(checked) or checked % 1 != 0:
        raise ValueError(
            f"depth: expected an integer >= 1, as factors have, but got {depth!r}; use "
            "EndToEndSGD(step_scale='auto') instead"
        )
    return int(checked)
