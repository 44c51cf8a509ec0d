"""torch.optim.SGD's own arithmetic, on momentum that exists before the first step."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from virtualdepth.optim._finite_check import FiniteCheck, only_if
from virtualdepth.optim._matrices import Group, State, States


def init_momentum(state: State, parameter: Tensor) -> State:
    """Return a state with a "momentum_buffer" and its count of steps, made now if need be.

    They have to exist before a checkpoint is loaded into them. A buffer without a count comes from
    torch.optim.SGD, which makes one only when it takes a step.
    """
    buffer = state.get("momentum_buffer")
    if buffer is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] = 0
    elif (buffer.dtype, buffer.device) != (parameter.dtype, parameter.device):
        # the model was moved, or its precision changed
        state["momentum_buffer"] = buffer.to(device=parameter.device, dtype=parameter.dtype)
    state.setdefault("step", 1)
    return state


def descend(
    group: Group,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: States,
    finite: FiniteCheck | None = None,
    foreach: bool | None = None,
) -> None:
    """Take one step of torch.optim.SGD, bitwise, unless a flag says that something is not finite.

    Without momentum no state is read or made.
    """
    if not params:
        return
    momenta = [init_momentum(states[p], p) for p in params] if group["momentum"] != 0 else []
    if finite is not None and finite.flag is not None:
        finite.before += [(state, {"step": state["step"]}) for state in momenta]
        for p, grad in zip(params, grads, strict=True):  # so one copy is held at a time
            written = [p, states[p]["momentum_buffer"]] if momenta else [p]
            with only_if(finite.flag, written):
                descend(group, [p], [grad], states, foreach=foreach)
        return
    buffers: list[Any] = [None] * len(params)
    if momenta:  # torch's rule: the first step copies the gradient, without dampening
        buffers = [state["momentum_buffer"] if state["step"] else None for state in momenta]
    sgd(
        list(params),
        list(grads),
        buffers,
        has_sparse_grad=any(map(attrgetter("is_sparse"), grads)),
        foreach=foreach,
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
    )
    for state, buffer in zip(momenta, buffers, strict=False):  # no momenta, nothing to keep
        if state["step"] == 0 and not buffer.is_sparse:
            buffer = state["momentum_buffer"].copy_(buffer)
        state["momentum_buffer"] = buffer
        state["step"] += 1
