"""torch.optim.SGD's own arithmetic, on momentum that exists before the first step."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._matrices import Group, State


def init_momentum(state: State, parameter: Tensor) -> State:
    """Return a state with a "momentum_buffer" and its count of steps, made now if need be.

    They have to exist before a checkpoint is loaded into them. A buffer without a count comes from
    torch.optim.SGD, which makes one only when it takes a step.
    """
    buffer = state.get("momentum_buffer")
    if buffer is not None and is_distributed(buffer) != is_distributed(parameter):
        raise TypeError(
            f"momentum_buffer: expected the kind of its parameter of shape {tuple(parameter.shape)}"
            f", {_kind(parameter)}, but got {_kind(buffer)}; load checkpoints of other numbers of "
            "processes through torch.distributed.checkpoint, which places what it loads"
        )
    if buffer is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] = 0
    state.setdefault("step", 1)
    return state


def _kind(tensor: Tensor) -> str:
    return "a DTensor" if is_distributed(tensor) else "a tensor of one process"


def descend(
    group: Group,
    params: list[Tensor],
    grads: list[Tensor],
    momenta: list[State],
    foreach: bool | None = None,
) -> None:
    """Take one step of torch.optim.SGD, bitwise; without momentum there are no ``momenta``."""
    if not params:
        return
    buffers: list[Any] = [None] * len(params)
    if momenta:  # torch's rule: the first step copies the gradient, without dampening
        buffers = [state["momentum_buffer"] if state["step"] else None for state in momenta]
    sgd(
        params,
        grads,
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
