"""From gradients to descent directions: what every optimizer with depth shares.

Nothing here changes a parameter, a gradient or a state.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import (
    EndToEndGradient,
    LinAlgError,
    end_to_end_gradient,
    squared_metric_norm,
    unit_scale,
)
from virtualdepth.optim.guard import StepGuard
from virtualdepth.optim.matrix_view import MatrixView

# the published step rule of arXiv 1905.13655: its averaging and its floor
_RMS_DECAY = 0.99
_RMS_FLOOR = 1e-4


class MatrixGradient(NamedTuple):
    """One parameter of depth > 1, ready to be preconditioned.

    Attributes:
        name: for error messages.
        parameter: what will move.
        view: the parameter as matrices.
        weight: what P is taken of: the parameter, or its change since the origin.
        grad: G.
    """

    name: str
    parameter: Tensor
    view: MatrixView
    weight: Tensor
    grad: Tensor


class GroupStep(NamedTuple):
    """What a group's step needs.

    Attributes:
        directions: parameter -> scaled P_W(G), shaped as the parameter, float32 or float64.
        memory: what the group must remember once the step is taken.
    """

    directions: dict[Tensor, Tensor]
    memory: dict[str, Any]


def precondition_group(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    guard: StepGuard,
    lr: float | Tensor,
) -> GroupStep:
    """Precondition the gradients of a group's matrices and scale them by its ``step_scale``.

    Args:
        group: options; see :class:`virtualdepth.EndToEndSGD`.
        matrices: parameters of depth > 1 with a gradient.
        guard: what checks them.
        lr: what the directions will be multiplied by.

    Returns:
        The directions, and what to remember.

    Raises:
        FloatingPointError: if a weight, gradient or direction is not finite.
        LinAlgError: if an SVD does not converge.
    """
    found = [_precondition(matrix, group, guard) for matrix in matrices]
    scales, memory = _scales(group, matrices, found, lr)
    directions = {}
    for matrix, gradient, scale in zip(matrices, found, scales, strict=True):
        scaled = gradient.direction if scale is None else scale * gradient.direction
        guard.admit(matrix.name, "update", scaled)
        directions[matrix.parameter] = matrix.view.join(scaled, like=matrix.parameter)
    return GroupStep(directions, memory)


def _precondition(
    matrix: MatrixGradient, group: Mapping[str, Any], guard: StepGuard
) -> EndToEndGradient:
    guard.admit(matrix.name, "weight", matrix.weight)
    guard.admit(matrix.name, "gradient", matrix.grad)
    weight, grad = matrix.view.split(matrix.weight), matrix.view.split(matrix.grad)
    if guard.waits(weight):
        # an SVD throws on NaN; the commit is masked, so the value does not matter
        weight = weight.nan_to_num(0, 0, 0)
    try:
        with _without_autocast(weight.device.type):
            return end_to_end_gradient(weight, grad, float(group["depth"]), group["rtol"])
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error


def _scales(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    found: Sequence[EndToEndGradient],
    lr: float | Tensor,
) -> tuple[Sequence[Tensor | None], dict[str, Any]]:
    if group["step_scale"] == "unit":
        scales = [
            unit_scale(gradient, float(group["depth"]), lr, group["cap"]) for gradient in found
        ]
        return [scale[..., None, None] for scale in scales], {}
    if group["step_scale"] == "rms" and found:
        square = torch.stack(
            [
                squared_metric_norm(matrix.view.split(matrix.grad), gradient)
                for matrix, gradient in zip(matrices, found, strict=True)
            ]
        ).sum()
        steps = group.get("rms_steps", 0) + 1
        mean = torch.lerp(
            square, torch.as_tensor(group.get("rms_mean", 0.0)).to(square), _RMS_DECAY
        )
        root = (mean / (1 - _RMS_DECAY**steps)).sqrt()
        return [1 / (root + _RMS_FLOOR)] * len(found), {"rms_mean": mean, "rms_steps": steps}
    return [None] * len(found), {}


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
