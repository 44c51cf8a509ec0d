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
    squared_metric_norm,
    unit_scale,
)
from virtualdepth.optim.guard import StepGuard
from virtualdepth.optim.matrix_view import MatrixView
from virtualdepth.optim.solvers import GRADIENT_SOLVERS, solver_of
from virtualdepth.optim.tracked import init_tracked, tracked_gradient

# the published step rule of arXiv 1905.13655: its averaging and its floor
_RMS_DECAY = 0.99
_RMS_FLOOR = 1e-4

# matrices of so many entries gain by being stacked, and stacks of so many take little memory
_SMALL, _STACKED = 64 * 64, 8 * 64 * 64


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
    solved = _precondition(matrices, group, guard, states)
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


Solved = tuple[EndToEndGradient, dict[str, Any]]


class _Problem(NamedTuple):
    """One matrix, or batch of matrices, that has been checked.

    Attributes:
        matrix: of which parameter.
        weight: W.
        grad: G.
        solver: that is to solve it.
        waits: whether reading a number would wait for a device.
    """

    matrix: MatrixGradient
    weight: Tensor
    grad: Tensor
    solver: str
    waits: bool


def _precondition(
    matrices: Sequence[MatrixGradient],
    group: Mapping[str, Any],
    guard: StepGuard,
    states: Mapping[Tensor, dict[str, Any]],
) -> list[Solved]:
    problems = [_checked(matrix, group, guard) for matrix in matrices]
    together: dict[int, Solved] = {}
    for stack in _stacks(problems):
        together |= _solve_stack(problems, stack, group)
    return [
        together[index] if index in together else _solve(problem, group, states)
        for index, problem in enumerate(problems)
    ]


def _checked(matrix: MatrixGradient, group: Mapping[str, Any], guard: StepGuard) -> _Problem:
    guard.admit(matrix.name, "weight", matrix.weight)
    guard.admit(matrix.name, "gradient", matrix.grad)
    weight, grad = matrix.view.split(matrix.weight), matrix.view.split(matrix.grad)
    return _Problem(matrix, weight, grad, solver_of(group, weight), guard.waits(weight))


def _finite(weight: Tensor, *, waits: bool) -> Tensor:
    # an SVD throws on NaN; the commit is masked, so the value does not matter
    return weight.nan_to_num(0, 0, 0) if waits else weight


def _stacks(problems: Sequence[_Problem]) -> list[list[int]]:
    """Find small matrices of one shape, that are solved together in a third of the time."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for index, (_, weight, grad, solver, _) in enumerate(problems):
        if solver in GRADIENT_SOLVERS and weight.ndim == 2 and weight.numel() <= _SMALL:
            key = (weight.shape, weight.dtype, weight.device, grad.dtype, solver)
            alike.setdefault(key, []).append(index)
    stacks = []
    for (shape, *_), indices in alike.items():
        size = _STACKED // shape.numel()
        stacks += [indices[first : first + size] for first in range(0, len(indices), size)]
    return [stack for stack in stacks if len(stack) > 1]


def _solve_stack(
    problems: Sequence[_Problem], stack: Sequence[int], group: Mapping[str, Any]
) -> dict[int, Solved]:
    weight, grad = (
        torch.stack([tensors[index] for index in stack])
        for tensors in ([p.weight for p in problems], [p.grad for p in problems])
    )
    weight = _finite(weight, waits=problems[stack[0]].waits)
    solve = GRADIENT_SOLVERS[problems[stack[0]].solver]
    try:
        with without_autocast(weight.device.type):
            direction, sigma, slopes = solve(weight, grad, float(group["depth"]), group["rtol"])
    except LinAlgError:
        return {}  # one by one it can be told which does not converge
    each = zip(stack, direction, sigma, slopes, strict=True)
    return {index: (EndToEndGradient(*parts), {}) for index, *parts in each}


def _solve(
    problem: _Problem, group: Mapping[str, Any], states: Mapping[Tensor, dict[str, Any]]
) -> Solved:
    matrix, weight, grad, solver, waits = problem
    weight = _finite(weight, waits=waits)
    try:
        with without_autocast(weight.device.type):
            if solver == "tracked":
                state = states[matrix.parameter]
                init_tracked(state, matrix.parameter, matrix.view)
                return tracked_gradient(weight, grad, group, state, waits=waits)
            solve = GRADIENT_SOLVERS[solver]
            return solve(weight, grad, float(group["depth"]), group["rtol"]), {}
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
        return _rms_scales(group, matrices, found, lr)
    return [None] * len(found), {}


def _rms_scales(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    found: Sequence[EndToEndGradient],
    lr: float | Tensor,
) -> tuple[Sequence[Tensor | None], dict[str, Any]]:
    squares = [
        squared_metric_norm(matrix.view.split(matrix.grad), gradient)
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


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Switch autocast off, where it is on.

    Args:
        device_type: "cpu", "cuda", ...

    Returns:
        A context.
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
