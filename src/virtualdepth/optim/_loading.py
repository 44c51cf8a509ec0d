"""State from a checkpoint: loaded as a whole or not at all, and checked before it is used."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._finite_check import entries, frames_to_user
from virtualdepth.optim._matrices import Group, State, States, matrix_of, parameter_name
from virtualdepth.optim.solvers import BASIS_KEYS, DEFAULT, solver_of
from virtualdepth.optim.step_scales import STEP_SCALES

# tensors with these names, in the state of torch's optimizers and of ours, are shaped as their
# parameter; others may keep a projection of it under the same name
_SHAPED = {"momentum_buffer", "exp_avg", "exp_avg_sq", "origin"}
_POINTS = ("auto_weight_", "auto_grad_")
# solvers that earlier versions had, which kept no state
_REMOVED_SOLVERS = frozenset({"polar"})


@contextmanager
def whole_load(
    optimizer: Optimizer, state_dict: Mapping[str, Any], *, own_loader: bool = False
) -> Iterator[None]:
    """Refuse what cannot be loaded, and put everything back as it was if the block raises.

    Yields:
        Nothing.
    """
    _check_kinds(state_dict, optimizer.param_groups, own_loader=own_loader)
    # a load replaces groups and states, and does not write into those that were there
    before = dict(vars(optimizer))
    try:
        yield
    except BaseException:
        vars(optimizer).update(before)
        raise


def replace_removed(groups: Iterable[MutableMapping[str, Any]]) -> None:
    """Let groups whose solver is no longer there go on with the default one, and say so once."""
    removed = [group for group in groups if group.get("solver") in _REMOVED_SOLVERS]
    if removed:
        warnings.warn(
            f"solver: {removed[0]['solver']!r} of an earlier version was removed; {DEFAULT!r} "
            "takes its place and goes on from the same weights and momenta",
            stacklevel=frames_to_user(),
        )
    for group in removed:
        group["solver"] = DEFAULT


def _check_kinds(
    state_dict: Mapping[str, Any], groups: Sequence[Group], *, own_loader: bool
) -> None:
    """Refuse what is no state of an optimizer, and tensors that a cast to a dtype would spoil."""
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        got = list(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise ValueError(
            "state_dict: expected one of an optimizer, with 'state' and 'param_groups', but got "
            f"{got}; nothing was loaded"
        )
    if own_loader:  # without torch's casts, as classes with quantised state have it
        return
    for number, (group, saved) in enumerate(
        zip(groups, state_dict.get("param_groups", ()), strict=False)
    ):
        pairs = zip(group["params"], saved.get("params", ()), strict=False)
        for index, (parameter, key) in enumerate(pairs):
            for what, value in state_dict.get("state", {}).get(key, {}).items():
                if isinstance(value, Tensor) and value.ndim and not _is_kind(value, parameter):
                    raise TypeError(
                        f"{parameter_name(group, number, index)}: expected a {what} of a dtype "
                        f"like {parameter.dtype} but got {value.dtype}; nothing was loaded"
                    )


def _is_kind(value: Tensor, parameter: Tensor) -> bool:
    kinds = ((each.is_floating_point(), each.is_complex()) for each in (value, parameter))
    return len(set(kinds)) == 1


def keep_precision(state_dict: Mapping[str, Any], groups: Sequence[Group], states: States) -> None:
    """Undo torch's cast of singular bases to the dtype of their parameters, which may be half."""
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        for parameter, key in zip(group["params"], saved["params"], strict=True):
            for name, value in state_dict["state"].get(key, {}).items():
                if name in BASIS_KEYS and isinstance(value, Tensor):
                    states[parameter][name] = value.to(parameter.device)


def check_state(
    group: Group, number: int, states: States, *, of: type[Optimizer] = Optimizer
) -> None:
    """Refuse state of a group that has another shape than a step needs, or is not finite."""
    scale = STEP_SCALES[group["step_scale"]]
    shaped = _SHAPED if of.__module__.startswith("torch.") else set()
    for index, parameter in enumerate(group["params"]):
        state, name = states.get(parameter, {}), parameter_name(group, number, index)
        for key, value in state.items():
            if isinstance(value, Tensor):
                if key in shaped or key.startswith(_POINTS):
                    _check_shape(name, key, value, parameter)
                _check_finite(name, key, value)
        _check_complete(name, state, scale.state_keys)
        if "origin" in state:
            _check_complete(name, state, {"origin", "left_origin"})
        if state and (matrix := matrix_of(group, number, index, states)) is not None:
            solver_of(matrix).check_state(matrix)
    for key in scale.memory:
        for value in _numbers(group.get(key, ())):
            if not math.isfinite(value):
                raise ValueError(
                    f"{key}: expected finite numbers in group {number} but got {value}; nothing "
                    "was loaded"
                )


def _check_complete(name: str, state: State, keys: Iterable[str]) -> None:
    """Refuse a state that has some of these keys, and lacks others."""
    missing = sorted(set(keys) - set(state))
    if missing and len(missing) < len(set(keys)):
        raise ValueError(
            f"{name}: expected {missing} in its state but got only {sorted(state)}; nothing was "
            "loaded"
        )


def _check_shape(name: str, key: str, value: Tensor, parameter: Tensor) -> None:
    if is_distributed(value) != is_distributed(parameter):
        raise TypeError(
            f"{name}: expected a {key} of the parameter's kind, {_kind(parameter)}, but got "
            f"{_kind(value)}; nothing was loaded. Load checkpoints of other numbers of processes "
            "through torch.distributed.checkpoint, which places what it loads"
        )
    if value.shape != parameter.shape:
        raise ValueError(
            f"{name}: expected a {key} of shape {tuple(parameter.shape)} but got "
            f"{tuple(value.shape)}; nothing was loaded"
        )


def _kind(tensor: Tensor) -> str:
    return "a DTensor" if is_distributed(tensor) else "a tensor of one process"


def _check_finite(name: str, key: str, value: Tensor) -> None:
    floating = value.is_floating_point() or value.is_complex()
    if floating and value.ndim and not torch.isfinite(entries(value)).all():
        raise ValueError(
            f"{name}: expected finite numbers in {key} but got NaN or inf; nothing was loaded"
        )


def _numbers(value: Any) -> Iterable[float]:
    return value if isinstance(value, list | tuple) else [value]
