"""What goes wrong before a step, and how it is taken back."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from virtualdepth import EndToEndSGD


@contextmanager
def fault(
    name: str | None, params: list[nn.Parameter], optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """Spoil the first parameter, its gradient, its state or an option of its group."""
    if name is None:
        yield
        return
    parameter, group = params[0], optimizer.param_groups[0]
    value, _, where = name.partition(" in the ")
    if where in {"weight", "gradient"}:
        spoilt = parameter.data if where == "weight" else parameter.grad
        assert spoilt is not None
        with _entry_of(spoilt, float(value)):
            yield
    elif where == "state":
        with _nan_in_state(optimizer, parameter):
            yield
    elif name == "other shape in the state":
        with _other_shape(optimizer.state.get(parameter, {})):
            yield
    elif name in {"huge gradient", "zero gradient", "no gradient"}:
        _replace_gradient(name, parameter)
        yield
    elif name == "nan loss":
        yield  # the closure returns it
    else:
        option, _, text = name.replace("huge lr", "lr 1e38").rpartition(" ")
        with _option(optimizer, group, option, float(text)):
            yield


@contextmanager
def _entry_of(tensor: Tensor, value: float) -> Iterator[None]:
    before = tensor.clone()
    tensor.view(-1)[0] = value
    yield
    if torch.equal(tensor.nan_to_num(), _with_entry(before, value).nan_to_num()):
        tensor.copy_(before)  # it was refused, and nothing else has changed


def _with_entry(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[0] = value
    return changed


@contextmanager
def _nan_in_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Iterator[None]:
    """Spoil the first tensor of a state; a refused step may have put a copy of it there."""
    state = optimizer.state.get(parameter, {})
    key = next((k for k, v in state.items() if isinstance(v, Tensor) and v.ndim > 0), None)
    if key is None:
        yield
        return
    before = state[key].clone()
    state[key].view(-1)[0] = math.nan
    yield
    state = optimizer.state[parameter]
    if state[key].isnan().any():
        state[key].copy_(before)


@contextmanager
def _other_shape(state: dict[str, Any]) -> Iterator[None]:
    """Give the first tensor of a state one row more."""
    key = next((k for k, v in state.items() if isinstance(v, Tensor) and v.shape), None)
    if key is None:
        yield
        return
    before = state[key]
    state[key] = torch.cat([before, before[:1]])
    yield
    state[key] = before


def _replace_gradient(name: str, parameter: nn.Parameter) -> None:
    assert parameter.grad is not None
    if name == "no gradient":
        parameter.grad = None
    elif name == "zero gradient":
        parameter.grad = torch.zeros_like(parameter)
    else:
        parameter.grad = torch.full_like(parameter, torch.finfo(parameter.dtype).max / 2)


@contextmanager
def _option(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], option: str, value: float
) -> Iterator[None]:
    # another optimizer may not have it, or lack the state that a momentum set live needs
    if option not in group or (option == "momentum" and not isinstance(optimizer, EndToEndSGD)):
        yield
        return
    before = group[option]
    group[option] = value
    yield
    group[option] = before
