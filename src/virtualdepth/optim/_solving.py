"""P_W(G) of a group's matrices: each by its solver, small ones of one shape together."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import LinAlgError, Preconditioned
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._matrix_view import MatrixView
from virtualdepth.optim._solvers import GRADIENT_SOLVERS, solver_of
from virtualdepth.optim._tracked import init_tracked, tracked_gradient

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


Solved = tuple[Preconditioned, dict[str, Any]]


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


def solve_matrices(
    matrices: Sequence[MatrixGradient],
    group: Mapping[str, Any],
    guard: StepGuard,
    states: Mapping[Tensor, dict[str, Any]],
) -> list[Solved]:
    """Precondition the gradients of a group's matrices, each by its solver; nothing is changed.

    Args:
        matrices: parameters of depth > 1 with a gradient.
        group: options; see :class:`virtualdepth.EndToEndSGD`.
        guard: what checks them.
        states: of the parameters, for solvers that have one.

    Returns:
        For each P_W(G), and what its parameter's state must remember.

    Raises:
        FloatingPointError: if a weight or gradient is not finite.
        LinAlgError: if an SVD does not converge.
    """
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
    return {index: (Preconditioned(*parts), {}) for index, *parts in each}


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
