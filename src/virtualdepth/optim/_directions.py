"""From gradients to descent directions: what every optimizer with depth shares.

Nothing here changes a parameter, a gradient or a state.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import Preconditioned, squared_preconditioned_norm, unit_scale
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._matrix_view import MatrixView
from virtualdepth.optim._solving import MatrixGradient, solve_matrices

# the published step rule of arXiv 1905.13655: its averaging and its floor
_RMS_DECAY = 0.99
_RMS_FLOOR = 1e-4


class GroupStep(NamedTuple):
    """What a group's step needs.

    Attributes:
        directions: parameter -> scaled P_W(G), shaped as the parameter, float32 or float64.
        weights: parameter -> what P was taken of.
        memory: what the group must remember once the step is taken.
        memories: what each parameter's state must remember.
        networks: parameter -> its layers after the step, which move it in place of a direction.
    """

    directions: dict[Tensor, Tensor]
    weights: dict[Tensor, Tensor]
    memory: dict[str, Any]
    memories: dict[Tensor, dict[str, Any]] = {}  # noqa: RUF012 - never written to
    networks: dict[Tensor, "Network"] = {}  # noqa: RUF012 - never written to


class Network(NamedTuple):
    """The explicit layers that stand behind one parameter.

    Attributes:
        view: the parameter as matrices.
        weight: their product, (..., m, n); None leaves the parameter as it is.
        factors: [W_1, ..., W_N], W_1 applied first.
        momenta: of the factors; empty without momentum.
        steps: how many steps the momenta have taken.
        refactored: how often a change from outside was met by new factors.
        products: W_1, W_2 W_1, ..., without the whole.
    """

    view: MatrixView
    weight: Tensor | None
    factors: list[Tensor]
    momenta: list[Tensor]
    steps: int
    refactored: int
    products: list[Tensor]


def init_memory(group: dict[str, Any]) -> None:
    """Make the memory that a group's ``step_scale`` needs, unless it is there already.

    Args:
        group: options; changed.
    """
    if group["step_scale"] == "rms":
        group.setdefault("rms_mean", 0.0)
        group.setdefault("rms_steps", 0)


def precondition_group(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    guard: StepGuard,
    lr: float | Tensor,
    states: Mapping[Tensor, dict[str, Any]],
    *,
    rounded: bool,
) -> GroupStep:
    """Precondition the gradients of a group's matrices and scale them by its ``step_scale``.

    Args:
        group: options; see :class:`virtualdepth.EndToEndSGD`.
        matrices: parameters of depth > 1 with a gradient.
        guard: what checks them.
        lr: what the directions will be multiplied by.
        states: of the parameters, for solvers that have one.
        rounded: whether they will be kept in the parameters' dtype, as momentum or gradients are.

    Returns:
        The directions, and what to remember.

    Raises:
        FloatingPointError: if a weight, gradient or direction is not finite, or, ``rounded``, not
            in the range of the parameter's dtype.
        LinAlgError: if an SVD does not converge.
    """
    solved = solve_matrices(matrices, group, guard, states)
    found = [gradient for gradient, _ in solved]
    # a step of rate 0, as checkpoints take to make state, must change nothing
    memories = {
        matrix.parameter: memory
        for matrix, (_, memory) in zip(matrices, solved, strict=True)
        if memory and lr != 0
    }
    scales, memory = _scales(group, matrices, found, lr)
    directions = {}
    for matrix, gradient, scale in zip(matrices, found, scales, strict=True):
        scaled = gradient.direction if scale is None else scale * gradient.direction
        kept = scaled.to(matrix.parameter.dtype) if rounded else scaled
        guard.admit(matrix.name, "update", kept)
        directions[matrix.parameter] = matrix.view.join(scaled, like=matrix.parameter)
    weights = {matrix.parameter: matrix.weight for matrix in matrices}
    return GroupStep(directions, weights, memory, memories)


def _scales(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    found: Sequence[Preconditioned],
    lr: float | Tensor,
) -> tuple[Sequence[Tensor | None], dict[str, Any]]:
    if group["step_scale"] == "unit":
        scales = [
            unit_scale(gradient, float(group["depth"]), lr, group["cap"]) for gradient in found
        ]
        return [scale[..., None, None] for scale in scales], {}
    if group["step_scale"] == "rms" and found:
        return _rms_scales(group, matrices, found, lr)
    return [None] * len(found), {}


def _rms_scales(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    found: Sequence[Preconditioned],
    lr: float | Tensor,
) -> tuple[Sequence[Tensor | None], dict[str, Any]]:
    squares = [
        squared_preconditioned_norm(matrix.view.split(matrix.grad), gradient)
        for matrix, gradient in zip(matrices, found, strict=True)
    ]
    square = torch.stack([each.to(squares[0]) for each in squares]).sum()
    steps = group.get("rms_steps", 0) + 1
    before = torch.as_tensor(group.get("rms_mean", 0.0)).to(square)
    mean = torch.lerp(square, before, _RMS_DECAY)
    scale = 1 / ((mean / (1 - _RMS_DECAY**steps)).sqrt() + _RMS_FLOOR)
    # a step of rate 0, as checkpoints take to make state, must change nothing
    memory = {} if lr == 0 else {"rms_mean": mean, "rms_steps": steps}
    return [scale.to(gradient.direction) for gradient in found], memory


def add_decay(group: Mapping[str, Any], direction: Tensor, weight: Tensor) -> None:
    """Give a direction its sign, and the decay of all N layers.

    Args:
        group: options.
        direction: scaled P_W(G); changed.
        weight: what decays.
    """
    if group["maximize"]:
        direction.neg_()
    if group["weight_decay"] != 0:
        layers = 1.0 if math.isinf(group["depth"]) else float(group["depth"])
        direction.add_(weight, alpha=layers * group["weight_decay"])
