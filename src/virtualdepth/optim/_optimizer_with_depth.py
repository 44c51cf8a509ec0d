"""A subclass of any optimizer's class, made when needed, that gives its steps depth.

Step hooks would not do: with a closure they run before the backward pass, an exception skips them,
and they vanish when the optimizer is copied.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, new_class
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import LBFGS, Optimizer

from virtualdepth.optim._directions import (
    GroupStep,
    init_memory,
    precondition_group,
)
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._matrix_view import matrices
from virtualdepth.optim._options import (
    check_depth_options,
    check_target_options,
    plain_number,
)
from virtualdepth.optim._solving import MatrixGradient

Closure = Callable[[], Any] | None

_made: dict[tuple[type[Optimizer], str], type[Optimizer]] = {}


class OptimizerWithDepth(Optimizer):
    """The methods that :func:`class_with_depth` puts into a subclass of an optimizer's class.

    They call the base by name: as a second base this class would change the layout of objects whose
    own class is an abstract one, and Python would not change their class.
    """

    _base: type[Optimizer]
    _on: str

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

        Args:
            param_group: as the optimizer takes it, and any option of :func:`with_depth`.

        Raises:
            TypeError: if an option is of the wrong type, or a matrix to get depth is complex,
                sparse or sharded.
            ValueError: if an option is out of range, or a matrix does not divide into blocks.
        """
        if "depth" not in param_group and any("matrix_counts" in g for g in self.param_groups):
            param_group = {**param_group, "depth": 1.0}
        options = {**self.defaults, **param_group}
        check_depth_options(options)
        check_target_options(options, self._on)
        self._base.add_param_group(self, param_group)
        group = self.param_groups[-1]
        try:
            deque(matrices(group, len(self.param_groups) - 1), maxlen=0)  # run the checks
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        init_memory(group)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, with numbers that any checkpoint reader accepts.

        Returns:
            As the optimizer's own.
        """
        for group in self.param_groups:
            # schedulers that count with another library leave its numbers here
            group.update({key: plain_number(value) for key, value in group.items()})
        return self._base.state_dict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, with depth or without; without, the depth stays as it is.

        Args:
            state_dict: of an optimizer of the same base class.
        """
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
        """Take the optimizer's step, with depth.

        Args:
            closure: reevaluates the model and returns the loss.
            options: what else the optimizer's own step takes, by name.

        Returns:
            The loss, if there is a closure.
        """
        inner = self._base.step
        if getattr(inner, "hooked", False):
            inner = inner.__wrapped__  # type: ignore[attr-defined]
        if self._on == "gradient":
            return self._step_on_gradient(partial(inner, self, **options), closure)
        return self._step_on_update(partial(inner, self, **options), closure)

    def _step_on_gradient(self, inner: Callable[..., Any], closure: Closure) -> Any:
        loss = _evaluate(closure)
        steps = self._precondition()
        directions = {p: d for step in steps for p, d in step.directions.items()}
        before = {p: grad for p in directions if (grad := p.grad) is not None}
        try:
            for p, direction in directions.items():
                p.grad = direction
            inner()
        finally:
            for p, grad in before.items():
                p.grad = grad
        self._remember(steps)
        return loss

    def _step_on_update(self, inner: Callable[..., Any], closure: Closure) -> Any:
        everything = [p for group in self.param_groups for p in group["params"]]
        loss = None
        if not isinstance(self, LBFGS):  # which evaluates it several times
            loss, closure = _evaluate(closure), None
            self._admit()  # before the optimizer's own state takes it in
            everything = [p for p in everything if p.grad is not None]
        before = {p: p.detach().clone() for p in everything}
        try:
            result = inner(closure)
            steps = self._precondition(before)
        except BaseException as error:
            error.add_note("the weights are as before; the optimizer's own state may have moved on")
            with torch.no_grad():
                for p, weight in before.items():
                    p.copy_(weight)
            raise
        with torch.no_grad():
            for step in steps:
                for p, direction in step.directions.items():
                    p.copy_(before[p] + direction)
        self._remember(steps)
        return result if isinstance(self, LBFGS) else loss

    @torch.no_grad()
    def _precondition(self, before: Mapping[Tensor, Tensor] | None = None) -> list[GroupStep]:
        """Precondition gradients, or the updates since ``before``."""
        steps, guard = [], self._depth_guard()
        try:
            for number, group in enumerate(self.param_groups):
                check_target_options(group, self._on)
                moving = [
                    MatrixGradient(name, p, view, p, p.grad)
                    if before is None
                    else MatrixGradient(name, p, view, before[p], p - before[p])
                    for name, p, view in matrices(group, number)
                    if p.grad is not None
                ]
                lr = group.get("lr", 1.0) if before is None else 1.0
                step = precondition_group(group, moving, guard, lr, {}, rounded=True)
                if before is None:
                    _shape_as_gradients(moving, step, guard)
                steps.append(step)
            # the optimizer's own step cannot be masked by a flag on the device
            guard.settle()
        finally:
            guard.drop()
        return steps

    @torch.no_grad()
    def _admit(self) -> None:
        guard = self._depth_guard()
        try:
            for number, group in enumerate(self.param_groups):
                check_target_options(group, self._on)
                for name, parameter, _ in matrices(group, number):
                    if parameter.grad is not None:
                        guard.admit(name, "weight", parameter)
                        guard.admit(name, "gradient", parameter.grad)
            guard.settle()
        finally:
            guard.drop()

    def _depth_guard(self) -> StepGuard:
        guard: StepGuard = vars(self).setdefault("_guard", StepGuard())
        return guard

    def _remember(self, steps: list[GroupStep]) -> None:
        for group, step in zip(self.param_groups, steps, strict=True):
            group.update(step.memory)


def has_depth(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer's class was made by :func:`class_with_depth`.

    Args:
        optimizer: any.

    Returns:
        Whether it has depth.
    """
    return type(optimizer) in _made.values()


def class_with_depth(base: type[Optimizer], on: str) -> type[Optimizer]:
    """Derive a class with depth from an optimizer's; always the same one for the same arguments.

    Args:
        base: a subclass of torch.optim.Optimizer.
        on: "gradient" or "update".

    Returns:
        The class, named after ``base``.
    """
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


def _rebuild(base: type[Optimizer], on: str) -> Optimizer:
    cls = class_with_depth(base, on)
    return cls.__new__(cls)


def _shape_as_gradients(moving: list[MatrixGradient], step: GroupStep, guard: StepGuard) -> None:
    for matrix in moving:
        direction = step.directions[matrix.parameter]
        cast = torch.empty_like(matrix.grad).copy_(direction)
        if cast.dtype != direction.dtype:
            guard.admit(matrix.name, "update", cast)  # half precision overflows early
        step.directions[matrix.parameter] = cast


def _evaluate(closure: Closure) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
