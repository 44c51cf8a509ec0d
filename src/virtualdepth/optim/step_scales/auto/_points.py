"""The weights and gradients before the last steps, that each parameter keeps."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import LinAlgError, Preconditioner, Units, in_units, preconditioner
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix, State

POINTS = 5
POINT_KEYS = frozenset(
    {f"auto_{kind}_{age}" for kind in ("weight", "grad") for age in range(POINTS)} | {"auto_points"}
)


class Moving(NamedTuple):
    """A matrix with its metric, and weights and gradients from here back to the oldest point.

    All are in the units that the matrices of a group have in common.
    """

    matrix: Matrix
    metric: Preconditioner
    weights: list[Tensor]
    grads: list[Tensor]
    imbalance: float


def init_points(state: State, parameter: Tensor) -> None:
    """Make room for the points; age 0 is where the last step began."""
    for age in range(POINTS):
        for key in (f"auto_weight_{age}", f"auto_grad_{age}"):
            if key not in state:
                state[key] = torch.zeros_like(parameter)
    state.setdefault("auto_points", 0)


def common_units(matrices: Sequence[Matrix], finite: FiniteCheck) -> Units | None:
    """Find the units of all W and G of a group together; None for 1."""
    weights, grads = [], []
    for matrix in matrices:
        matrix.weight_peak = finite.check(matrix.name, matrix.kind, matrix.weight)
        weights.append(float(matrix.weight_peak))
        grads.append(float(finite.check(matrix.name, "gradient", matrix.grad)))
    types = functools.reduce(torch.promote_types, (m.weight.dtype for m in matrices), torch.float32)
    # numbers of the host, which go with matrices on any device
    weight, grad = (
        torch.tensor([[max(each)]], dtype=types, device="cpu") for each in (weights, grads)
    )
    group = matrices[0].group
    return in_units(weight, grad, float(group["depth"]), group["imbalance"])[-1]


def moving_matrix(matrix: Matrix, points: int, units: Units | None) -> Moving:
    """Decompose W, and read the last points."""
    group, state, split = matrix.group, matrix.state, matrix.view.split
    dtype = torch.promote_types(matrix.weight.dtype, torch.float32)
    ages = range(points)
    weights = [matrix.weight, *(state[f"auto_weight_{age}"] for age in ages)]
    grads = [matrix.grad, *(state[f"auto_grad_{age}"] for age in ages)]
    device = matrix.weight.device
    weights = [split(weight.to(device, dtype)) for weight in weights]
    grads = [split(grad.to(device, dtype)) for grad in grads]
    imbalance = group["imbalance"]
    if units is not None:
        imbalance = float(units.imbalance)
        pairs = [units.scaled(*pair) for pair in zip(weights, grads, strict=True)]
        weights, grads = [weight for weight, _ in pairs], [grad for _, grad in pairs]
    try:
        metric = preconditioner(weights[0], float(group["depth"]), group["rtol"], imbalance)
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    return Moving(matrix, metric, weights, grads, imbalance)


def next_points(matrix: Matrix, points: int) -> dict[str, Any]:
    """Put the point where this step begins before those of the last steps."""
    aged = {
        f"auto_{kind}_{age + 1}": matrix.state[f"auto_{kind}_{age}"].to(matrix.parameter)
        for kind in ("weight", "grad")
        for age in range(POINTS - 1)
    }
    here = {
        "auto_weight_0": matrix.weight.detach().clone(),
        "auto_grad_0": matrix.grad.detach().clone(),
    }
    return {**aged, **here, "auto_points": min(points + 1, POINTS)}
