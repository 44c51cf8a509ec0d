"""The steps of another optimizer once it has depth: on its gradients, or on its updates."""

from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Group, GroupStep, Matrix, begin_step, check_whole
from virtualdepth.optim._options import OnName, check_able, check_changed, check_depth_options
from virtualdepth.optim._step import Session, without_autocast
from virtualdepth.optim._undo import WholeStep, whole_step
from virtualdepth.optim.step_scales import STEP_SCALES

Closure = Callable[[], Any] | None

# By what optimizers tell that they multiply W by 1 - lr * weight_decay, apart from the gradient:
# options of torch, pytorch_optimizer and timm, or else the beginning of a class's name
_DECOUPLED = ("decoupled_weight_decay", "weight_decouple", "decoupled_decay")
_DECOUPLED_CLASSES = ("AdamW", "Adafactor", "Lion", "Muon", "SGDW")


def step_on_gradient(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
    """Let the optimizer see P_W(G) in place of G."""
    loss = None if closure is None else _evaluate(closure)
    with whole_step(optimizer) as whole:
        whole.steps = _precondition(optimizer, whole)
        try:
            for step in whole.steps:
                for matrix in step.matrices:
                    matrix.parameter.grad = matrix.direction
            inner()
        finally:
            for step in whole.steps:
                for matrix in step.matrices:
                    matrix.parameter.grad = matrix.grad
    return loss


def step_on_update(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
    """Let the optimizer take its step, and move W by P_W of it instead.

    A decay that is apart from the gradient acts on W itself: P_W would shield from it just the
    small singular values.
    """
    several = isinstance(optimizer, LBFGS)  # which evaluates the closure several times
    loss = None
    if closure is not None and not several:
        loss, closure = _evaluate(closure), None
    with whole_step(optimizer, several=several) as whole:
        if not several:
            _check_gradients(optimizer, whole.session)
        result = inner(closure)
        whole.steps = _precondition(optimizer, whole, on="update")
        with torch.no_grad():
            for step in whole.steps:
                kept = _kept(optimizer, step.group)
                for matrix in step.matrices:
                    assert matrix.direction is not None
                    matrix.parameter.copy_(matrix.weight * kept + matrix.direction)
    return result if several else loss


@torch.no_grad()
def _precondition(
    optimizer: Optimizer, whole: WholeStep, on: OnName = "gradient"
) -> list[GroupStep]:
    """Precondition gradients, or the updates since the step began."""
    steps, finite = [], whole.session.finite
    check = partial(check_target, on=on)
    with without_autocast(optimizer.param_groups):
        for number, group in enumerate(optimizer.param_groups):
            seen = check_changed(group, number, whole.session.checked, check)
            step = begin_step(group, number, seen, optimizer.state, whole.session.caches)
            lr = group.get("lr", 1.0)
            if on == "update":
                lr, kept = 1.0, _kept(optimizer, group)
                for matrix in step.matrices:
                    matrix.weight = whole.weights[matrix.parameter]
                    matrix.grad = matrix.parameter - matrix.weight * kept
            STEP_SCALES[group["step_scale"]].compute(step, finite, lr=lr, rounded=True)
            if on == "gradient":
                for matrix in step.matrices:
                    _shape_as_gradient(matrix, finite)
            steps.append(step)
    return steps


def _kept(optimizer: Optimizer, group: Group) -> float:
    """Return what share of W a decay apart from the gradient leaves; 1 if there is none."""
    decay, lr = group.get("weight_decay"), group.get("lr")
    if not decay or not isinstance(decay, Real | Tensor) or not isinstance(lr, Real | Tensor):
        return 1.0
    told = [group[flag] for flag in _DECOUPLED if flag in group]
    bases = type(optimizer).__mro__[1:]  # without the class made here, "SGDWithDepth"
    named = any(base.__name__.startswith(_DECOUPLED_CLASSES) for base in bases)
    return 1 - float(lr) * float(decay) if any(told or [named]) else 1.0


@torch.no_grad()
def _check_gradients(optimizer: Optimizer, session: Session) -> None:
    """Refuse weights and gradients of depth > 1 that are not finite, and name them so."""
    check = partial(check_target, on="update")
    with without_autocast(optimizer.param_groups):
        for number, group in enumerate(optimizer.param_groups):
            seen = check_changed(group, number, session.checked, check)
            for matrix in begin_step(group, number, seen, {}, {}).matrices:
                session.finite.check(matrix.name, matrix.kind, matrix.weight)
                session.finite.check(matrix.name, "gradient", matrix.grad)


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
