"""torch.optim.SGD's own arithmetic, on momentum that exists before the first step."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from virtualdepth.distributed import is_distributed

State = dict[str, Any]


def init_momentum(state: State, parameter: Tensor) -> State:
    """Make a parameter's momentum, unless it is there already.

    It has to exist before a checkpoint is loaded into it. A buffer without a count comes from
    torch.optim.SGD, which makes one only when it takes a step.

    Args:
        state: the parameter's state.
        parameter: what the momentum is shaped and placed like.

    Returns:
        ``state``, with a "momentum_buffer" and the number of steps ("step") it has taken.

    Raises:
        TypeError: if only one of parameter and momentum lies on several processes, as after loading
            a checkpoint of one process.
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
    params: list[Tensor],
    grads: list[Tensor],
    states: list[State],
    group: dict[str, Any],
    foreach: bool | None = None,
) -> None:
    """Take one step of torch.optim.SGD, bitwise.

    Args:
        params: what moves.
        grads: what it moves along, of the same shapes.
        states: momentum and step count of each; empty without momentum.
        group: the options.
        foreach: as in torch.optim.SGD; None lets torch choose.
    """
    if not params:
        return
    # torch's rule: the first step copies the gradient, without dampening
    buffers: list[Any] = [state["momentum_buffer"] if state["step"] else None for state in states]
    buffers = buffers or [None] * len(params)
    sgd(
        params,
        grads,
        buffers,
        has_sparse_grad=any(grad.is_sparse for grad in grads),
        foreach=foreach,
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
    )
    for state, buffer in zip(states, buffers, strict=False):  # no states, no buffers to keep
        if state["step"] == 0 and not buffer.is_sparse:
            buffer = state["momentum_buffer"].copy_(buffer)
        state["momentum_buffer"] = buffer
        state["step"] += 1
