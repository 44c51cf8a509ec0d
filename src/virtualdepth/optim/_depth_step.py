"""The steps of another optimizer once it has depth: on its gradients, or on its updates."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Group, GroupStep, Matrix, check_whole, matrices
from virtualdepth.optim._options import OnName, check_able, check_changed, check_depth_options
from virtualdepth.optim._step import Session, without_autocast
from virtualdepth.optim.step_scales import STEP_SCALES

Closure = Callable[[], Any] | None


def step_on_gradient(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
    """Let the optimizer see P_W(G) in place of G."""
    loss = None if closure is None else _evaluate(closure)
    steps = _precondition(optimizer)
    try:
        for step in steps:
            for matrix in step.matrices:
                matrix.parameter.grad = matrix.direction
        inner()
    finally:
        for step in steps:
            for matrix in step.matrices:
                matrix.parameter.grad = matrix.grad
    _remember(steps)
    return loss


def step_on_update(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
    """Let the optimizer take its step, and move W by P_W of it instead."""
    several = isinstance(optimizer, LBFGS)  # which evaluates the closure several times
    loss = None
    if not several:
        if closure is not None:
            loss, closure = _evaluate(closure), None
        _check_finite(optimizer)  # before the optimizer's own state takes it in
    before = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if several or p.grad is not None:
                before[p] = p.detach().clone()
    try:
        result = inner(closure)
        steps = _precondition(optimizer, before)
    except BaseException as error:
        error.add_note("the weights are as before; the optimizer's own state may have moved on")
        with torch.no_grad():
            for p, weight in before.items():
                p.copy_(weight)
        raise
    with torch.no_grad():
        for step in steps:
            for matrix in step.matrices:
                assert matrix.direction is not None
                matrix.parameter.copy_(matrix.weight + matrix.direction)
    _remember(steps)
    return result if several else loss


@torch.no_grad()
def _precondition(
    optimizer: Optimizer, before: Mapping[Tensor, Tensor] | None = None
) -> list[GroupStep]:
    """Precondition gradients, or the updates since ``before``."""
    steps = []
    with _session_of(optimizer) as session:
        for number, group in enumerate(optimizer.param_groups):
            on: OnName = "gradient" if before is None else "update"
            step = _group_step(group, number, session, on)
            lr = group.get("lr", 1.0)
            if before is not None:
                lr = 1.0
                for matrix in step.matrices:
                    matrix.weight = before[matrix.parameter]
                    matrix.grad = matrix.parameter - matrix.weight
            scale = STEP_SCALES[group["step_scale"]]
            scale.compute(step, session.finite, lr=lr, rounded=True)
            if before is None:
                for matrix in step.matrices:
                    _shape_as_gradient(matrix, session.finite)
            steps.append(step)
    return steps


@torch.no_grad()
def _check_finite(optimizer: Optimizer) -> None:
    """Refuse weights and gradients of depth > 1 that are not finite."""
    with _session_of(optimizer) as session:
        for number, group in enumerate(optimizer.param_groups):
            for matrix in _group_step(group, number, session, "update").matrices:
                session.finite.check(matrix.name, "weight", matrix.weight)
                session.finite.check(matrix.name, "gradient", matrix.grad)


def _group_step(group: Group, number: int, session: Session, on: OnName) -> GroupStep:
    """Begin the step of a group: its matrices that have a gradient."""
    check_changed(group, number, session.checked, partial(check_target, on=on))
    step = GroupStep(group, {}, [])
    for matrix in matrices(group, number, {}):
        if matrix.parameter.grad is not None:
            matrix.grad = matrix.parameter.grad
            step.matrices.append(matrix)
    return step


@contextmanager
def _session_of(optimizer: Optimizer) -> Iterator[Session]:
    """Raise at once what is not finite: no flag on a device can mask the optimizer's own step."""
    session: Session = vars(optimizer).setdefault("_depth_session", Session())
    try:
        with without_autocast(optimizer.param_groups):
            yield session
        if session.finite.pending:
            session.finite.raise_pending()
    finally:
        session.finite.drop()


def _remember(steps: list[GroupStep]) -> None:
    for step in steps:
        for where, what in step.writes:
            where.update(what)


def _shape_as_gradient(matrix: Matrix, finite: FiniteCheck) -> None:
    """Give a direction the dtype and memory layout of the gradient that it stands in for."""
    direction = matrix.direction
    assert direction is not None
    matrix.direction = torch.empty_like(matrix.grad).copy_(direction)
    if matrix.direction.dtype != direction.dtype:
        # half precision overflows early
        finite.check(matrix.name, "update", matrix.direction)


def _evaluate(closure: Callable[[], Any]) -> Any:
    with torch.enable_grad():
        return closure()


def check_target(group: Group, number: int, *, on: OnName) -> None:
    """Refuse a group whose options, or parameters, do not go with another optimizer."""
    check_target_options(group, on)
    check_whole(group, number)


def check_target_options(group: Mapping[str, Any], on: OnName) -> None:
    """Refuse options that an optimizer of another class cannot follow once it has depth."""
    check_depth_options(group)
    check_able(
        group,
        "solver",
        lambda solver: not solver.keeps_state,
        why="keeps a state of its own, where another optimizer has its; use EndToEndSGD",
    )
    check_able(
        group,
        "step_scale",
        lambda scale: not scale.chooses_step,
        why="chooses the whole step and leaves none to another optimizer; use EndToEndSGD",
    )
    if on == "update":
        check_able(
            group,
            "step_scale",
            lambda scale: not (scale.chooses_step or scale.gradients_only),
            where=" with on='update'",
            why="is a rule for gradients",
        )
    elif not isinstance(group.get("lr"), Real | Tensor):
        check_able(
            group,
            "step_scale",
            lambda scale: not (scale.chooses_step or scale.needs_lr),
            where=" with an optimizer without a learning rate",
            why="needs one",
        )
    if group.get("origin") is not None:
        raise ValueError(
            f"origin: expected None but got {group['origin']!r}, which is an option of EndToEndSGD"
        )
