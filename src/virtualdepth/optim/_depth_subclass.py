"""A subclass of any optimizer's class, made when needed, that gives its steps depth.

Step hooks would not do: with a closure they run before the backward pass, an exception skips them,
and they vanish when the optimizer is copied.
"""

from functools import partial
from types import FunctionType, new_class
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from virtualdepth.optim._depth_step import (
    Closure,
    check_target,
    check_target_options,
    step_on_gradient,
    step_on_update,
)
from virtualdepth.optim._finite_check import DISTRIBUTED
from virtualdepth.optim._init_state import drop_empty, even_out
from virtualdepth.optim._loading import check_state, keep_precision, replace_removed, whole_load
from virtualdepth.optim._matrices import (
    Counts,
    Group,
    align_counts,
    known_names,
    learn_counts,
    learn_names,
    matrices,
)
from virtualdepth.optim._options import OPTIONS, OnName, plain_number
from virtualdepth.optim._step import Session
from virtualdepth.optim.step_scales import STEP_SCALES

# the options that a group has for its depth
DEPTH_OPTIONS = (
    "depth",
    "step_scale",
    "cap",
    "solver",
    "rtol",
    "structure",
    "imbalance",
    "precondition_frequency",
)

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

    def __init__(self, *args: Any, **options: Any) -> None:
        """Make one of the base's class with depth, as clients do that copy ``defaults``."""
        made, base, on = type(self), self._base, self._on
        ours = {name: options.pop(name, OPTIONS[name].default) for name in DEPTH_OPTIONS}
        self.__class__ = base  # type: ignore[assignment]
        base.__init__(self, *args, **options)
        self.defaults.update(ours)
        for number, group in enumerate(self.param_groups):
            _complete(self, group)
            check_target(group, number, on=on)
            matrices(group, number, {})  # run the checks
        self.__class__ = made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        for group in self.param_groups:
            align_counts(group, vars(self).get("_depth_counts", {}))
        kept = {key: value for key, value in vars(self).items() if key == "_depth_counts"}
        kept["_depth_names"] = known_names(
            p for group in self.param_groups for p in group["params"]
        )
        return _rebuild, (self._base, self._on), {**self.__getstate__(), **kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._base.__setstate__(self, state)
        learn_names(vars(self).pop("_depth_names", ()))
        replace_removed([self.defaults, *self.param_groups])
        session = vars(self).get("_depth_session")
        if isinstance(session, Session):
            session.caches.clear()  # of another state
        for group in self.param_groups:
            if "matrix_counts" in group:
                learn_counts(group, vars(self).setdefault("_depth_counts", {}))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; without a "depth" of its own it gets the optimizer's.

        Parameters of the model that depth was given by get it as their modules say. Where
        parameters were chosen, a group of any others is plain.
        """
        param_group = _with_view(self, param_group)
        check_target_options({**self.defaults, **param_group}, self._on)
        self._base.add_param_group(self, param_group)
        group = self.param_groups[-1]
        learn_names(zip(group.get("param_names", ()), group["params"], strict=False))
        try:
            check_target(group, len(self.param_groups) - 1, on=self._on)
            matrices(group, len(self.param_groups) - 1, {})  # run the checks
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        STEP_SCALES[group["step_scale"]].init_memory(group)
        if "matrix_counts" in group:
            learn_counts(group, vars(self).setdefault("_depth_counts", {}))

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, with numbers that any checkpoint reader accepts."""
        for group in self.param_groups:
            # schedulers that count with another library leave its numbers here
            group.update({key: plain_number(value) for key, value in group.items()})
            align_counts(group, vars(self).get("_depth_counts", {}))
        return even_out(self._base.state_dict(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint, with depth or without, as a whole or not at all.

        Without, the depth stays as it is.
        """
        before = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.param_groups
        ]
        own_loader = self._base.load_state_dict is not Optimizer.load_state_dict
        with whole_load(self, state_dict, own_loader=own_loader):
            self._base.load_state_dict(self, state_dict)
            keep_precision(state_dict, self.param_groups, self.state)
            for number, (group, own) in enumerate(zip(self.param_groups, before, strict=True)):
                for key, value in own.items():
                    group.setdefault(key, value)
                if "depth" not in group:
                    _complete(self, group)
                check_target_options(group, self._on)
                check_state(group, number, self.state, of=self._base)
                STEP_SCALES[group["step_scale"]].init_memory(group)
            drop_empty(self.param_groups, self.state)

    # what waits for numbers on the host would only be cut to pieces by a compiler
    @_disable_dynamo
    def step(self, closure: Closure = None, **options: Any) -> Any:
        """Take the optimizer's step with depth; its own step gets the ``options``."""
        for group in self.param_groups:
            if "depth" not in group:  # groups of a run without depth were put in place of these
                _complete(self, group)
            if "matrix_counts" in group:
                align_counts(group, vars(self).get("_depth_counts", {}))
        inner = self._base.step
        if getattr(inner, "hooked", False):
            inner = inner.__wrapped__  # type: ignore[attr-defined]
        if DISTRIBUTED and dist.is_initialized():
            session = vars(self).setdefault("_depth_session", Session())
            session.replicas.compare(self.param_groups, self.defaults)
        take_step = step_on_gradient if self._on == "gradient" else step_on_update
        return take_step(self, partial(inner, self, **options), closure)


def remember_counts(optimizer: Optimizer, counts: Counts | None) -> None:
    """Keep how many matrices the parameters of a model are, for groups that come later."""
    if counts is not None:
        vars(optimizer)["_depth_counts"] = counts


def _with_view(optimizer: Optimizer, group: Group) -> Group:
    """Say of a new group without a depth which of its parameters get the optimizer's."""
    counts: Counts | None = vars(optimizer).get("_depth_counts")
    chosen = counts is not None or any("matrix_counts" in g for g in optimizer.param_groups)
    if "depth" in group or not chosen or isinstance(group["params"], set):  # torch refuses sets
        return group
    given = group["params"]
    given = [given] if isinstance(given, Tensor) else list(given)
    params = [p[1] if isinstance(p, tuple) else p for p in given]
    if counts is None or not any(p in counts for p in params):
        return {**group, "params": given, "depth": 1.0}
    own = [counts.get(p, 0) for p in params]
    return {**group, "params": given, "matrix_counts": own}


def _complete(optimizer: Optimizer, group: Group) -> None:
    group.update({**optimizer.defaults, **_with_view(optimizer, group)})
    STEP_SCALES[group["step_scale"]].init_memory(group)


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
