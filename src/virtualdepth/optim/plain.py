"""The last stage of a step: torch's own functional SGD, with momentum buffers made beforehand."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd


def sgd_step(
    group: Mapping[str, Any],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: MutableMapping[Tensor, dict[str, Any]],
    foreach: bool | None = None,
) -> None:
    """Step along ``grads`` as torch.optim.SGD does, to the last bit.

    Args:
        group: options of torch.optim.SGD.
        params: what moves.
        grads: along what; not written to.
        states: of the optimizer; used with momentum only.
        foreach: torch's choice of implementation; None leaves it to torch.
    """
    if not params:
        return
    buffers: list[Tensor | None] = [None] * len(params)
    if group["momentum"] != 0:
        kept = [init_momentum(states[p], p) for p in params]
        # torch's rule: the first step copies the gradient, without dampening
        buffers = [state["momentum_buffer"] if state["step"] else None for state in kept]
    sgd(
        list(params),
        list(grads),
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
    if group["momentum"] != 0:
        for state, buffer in zip(kept, buffers, strict=True):
            if not state["step"]:
                state["momentum_buffer"].copy_(buffer)
            state["step"] += 1


def init_momentum(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Make a momentum buffer and a count of its steps where there is none.

    Args:
        state: of the parameter; changed.
        parameter: gives shape, dtype and place.

    Returns:
        ``state``.
    """
    if state.get("momentum_buffer") is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] = 0
    state.setdefault("step", 1)  # the buffer comes from a checkpoint of torch.optim.SGD
    return state
