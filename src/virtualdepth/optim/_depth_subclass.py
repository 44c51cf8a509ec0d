"""A subclass of any optimizer's class, made when needed, that gives its steps depth.

Step hooks would not do: with a closure they run before the backward pass, an exception skips them,
and they vanish when the optimizer is copied.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from numbers import Real
from types import FunctionType, new_class
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import LBFGS, Optimizer

from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import (
    Group,
    GroupStep,
    Matrix,
    check_whole,
    matrices,
)
from virtualdepth.optim._options import (
    OnName,
    check_changed,
    check_depth_options,
    listed,
    plain_number,
)
from virtualdepth.optim._step import Session, without_autocast
from virtualdepth.optim.solvers import SOLVERS
from virtualdepth.optim.step_scales import STEP_SCALES

Closure = Callable[[], Any] | None

_made: dict[tuple[type[Optimizer], str], type[Optimizer]] = {}


class OptimizerWithDepth(Optimizer):
    """The methods that :func:`class_with_depth` puts into a subclass of an optimizer's class.

    They call the base by name: as a second base this class would change the layout of objects whose
    own class is an abstract one, and Python would not change their class.
    """

    _base: type[Optimizer]
    _on: OnName

    # fused optimizers would take gradients that GradScaler has not unscaled yet
    @property
    def _step_supports_amp_scaling(self) -> bool:
        return False

    @_step_supports_amp_scaling.setter
    def _step_supports_amp_scaling(self, value: bool) -> None:
        """Ignore what a fused optimizer says of itself."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild, (self._base, self._on), self.__getstate__()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; without a "depth" of its own it gets the optimizer's.

        Where parameters were chosen by name or module, a group without a depth is plain.
        """
        if "depth" not in param_group and any("matrix_counts" in g for g in self.param_groups):
            param_group = {**param_group, "depth": 1.0}
        check_target_options({**self.defaults, **param_group}, self._on)
        self._base.add_param_group(self, param_group)
        group = self.param_groups[-1]
        try:
            check_target(group, len(self.param_groups) - 1, on=self._on)
            matrices(group, len(self.param_groups) - 1, {})  # run the checks
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        STEP_SCALES[group["step_scale"]].init(group, {})

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, with numbers that any checkpoint reader accepts."""
        for group in self.param_groups:
            # schedulers that count with another library leave its numbers here
            group.update({key: plain_number(value) for key, value in group.items()})
        return self._base.state_dict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, with depth or without; without, the depth stays as it is."""
        before = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.param_groups
        ]
        self._base.load_state_dict(self, state_dict)
        for group, own in zip(self.param_groups, before, strict=True):
            for key, value in own.items():
                group.setdefault(key, value)

    # what waits for numbers on the host would only be cut to pieces by a compiler
    @_disable_dynamo
    def step(self, closure: Closure = None, **options: Any) -> Any:
        """Take the optimizer's step, with depth; ``options`` are what its own step takes else."""
        inner = self._base.step
        if getattr(inner, "hooked", False):
            inner = inner.__wrapped__  # type: ignore[attr-defined]
        take_step = _step_on_gradient if self._on == "gradient" else _step_on_update
        return take_step(self, partial(inner, self, **options), closure)


def _step_on_gradient(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
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


def _step_on_update(optimizer: Optimizer, inner: Callable[..., Any], closure: Closure) -> Any:
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
        for where, what in step.memory:
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
    solver, scale = SOLVERS[group["solver"]], STEP_SCALES[group["step_scale"]]
    if solver.keeps_state:
        raise ValueError(
            f"solver: expected {_names(SOLVERS, lambda each: not each.keeps_state)} but got "
            f"{group['solver']!r}, which keeps a state of its own, where another optimizer has "
            "its; use EndToEndSGD"
        )
    possible = _names(STEP_SCALES, lambda each: not (each.chooses_step or each.gradients_only))
    if scale.chooses_step:
        raise ValueError(
            f"step_scale: expected {possible} but got {group['step_scale']!r}, which chooses the "
            "whole step and leaves none to another optimizer; use EndToEndSGD"
        )
    if on == "update" and scale.gradients_only:
        raise ValueError(
            f"step_scale: expected {possible} with on='update' but got {group['step_scale']!r}, "
            "which is a rule for gradients"
        )
    if on == "gradient" and scale.needs_lr and not isinstance(group.get("lr"), Real | Tensor):
        raise ValueError(
            f"step_scale: expected {_names(STEP_SCALES, lambda each: not each.needs_lr)} with an "
            f"optimizer without a learning rate but got {group['step_scale']!r}, which needs one"
        )
    if group.get("origin") is not None:
        raise ValueError(
            f"origin: expected None but got {group['origin']!r}, which is an option of EndToEndSGD"
        )


def _names(table: Mapping[Any, Any], can: Callable[[Any], bool]) -> str:
    return listed(name for name, each in table.items() if can(each))


def has_depth(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer's class was made by :func:`class_with_depth`."""
    return type(optimizer) in _made.values()


def class_with_depth(base: type[Optimizer], on: OnName) -> type[Optimizer]:
    """Derive a class with depth from an optimizer's; always the same one for the same arguments."""
    if (base, on) in _made:
        return _made[base, on]
    # torch wraps the step of each class so that hooks and profilers see it once: here the outer one
    step = Optimizer.profile_hook_step(OptimizerWithDepth.step)
    step.hooked = True  # type: ignore[attr-defined]
    methods = {
        name: value
        for name, value in vars(OptimizerWithDepth).items()
        if isinstance(value, FunctionType | property)
    }
    body = {**methods, "_base": base, "_on": on, "step": step, "__doc__": base.__doc__}
    made = new_class(f"{base.__name__}WithDepth", (base,), exec_body=lambda own: own.update(body))
    return _made.setdefault((base, on), made)


def _rebuild(base: type[Optimizer], on: OnName) -> Optimizer:
    cls = class_with_depth(base, on)
    return cls.__new__(cls)
