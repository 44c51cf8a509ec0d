"""What changes parameters and state, once every step is computed; and the state there is to be."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from virtualdepth.optim.auto_step import init_auto
from virtualdepth.optim.directions import GroupStep, init_memory
from virtualdepth.optim.guard import only_if
from virtualdepth.optim.matrix_view import MatrixView
from virtualdepth.optim.momentum import State, descend, init_momentum
from virtualdepth.optim.origin import init_origin, leave_origin

States = Mapping[Tensor, State]


def init_state(group: dict[str, Any], states: States) -> None:
    """Make the state now that a step will need, so that a checkpoint can be loaded into it.

    Args:
        group: options and "params"; its memory is made too.
        states: of the optimizer; changed.
    """
    _momenta(group, group["params"], states)
    init_memory(group)
    if group["step_scale"] == "auto":
        init_auto(group, states)
    if group["origin"] is not None:
        for index, parameter in enumerate(group["params"]):
            if MatrixView.of(group, index) is not None:
                init_origin(states[parameter], parameter)
            else:  # distributed checkpoints want state for every parameter, or for none
                states[parameter].setdefault("left_origin", False)


def commit_plain(
    group: dict[str, Any], step: GroupStep, states: States, verdict: Tensor | None
) -> list[State]:
    """Move what has no depth, as torch.optim.SGD does.

    Args:
        group: options and "params".
        step: of the group's matrices.
        states: of the optimizer; changed.
        verdict: a flag on the device without which nothing may change; None lets all stand.

    Returns:
        The states whose step counts stand or fall with the verdict.
    """
    moving = [(p, p.grad) for p in group["params"] if p.grad is not None]
    plain = [(p, grad) for p, grad in moving if p not in step.directions]
    # torch's foreach implementation (not used on CPUs) adds Nesterov's term to the gradients
    copies = group["nesterov"] and any(p.device.type != "cpu" for p, _ in plain)
    grads = [grad.clone() if copies else grad for _, grad in plain]
    return _descend(group, [p for p, _ in plain], grads, states, verdict)


def commit_matrices(
    group: dict[str, Any], step: GroupStep, states: States, verdict: Tensor | None
) -> list[State]:
    """Move the matrices along their directions, and remember what there is to remember.

    Args:
        group: options and "params"; its memory is changed.
        step: of the group's matrices.
        states: of the optimizer; changed.
        verdict: as for :func:`commit_plain`.

    Returns:
        As there.
    """
    # the direction holds sign and decay already; it may be float32 beside a half parameter,
    # which foreach does not take; one by one, so that a mask keeps one matrix at a time
    finished = {**group, "weight_decay": 0, "maximize": False}
    counted = []
    for p, direction in step.directions.items():
        # a step of rate 0, as checkpoints take to make state, must change nothing
        if group["origin"] and not states[p]["left_origin"] and group["lr"] != 0:
            leave_origin(states[p], p, step.weights[p])
        counted += _descend(finished, [p], [direction], states, verdict, foreach=False)
    group.update(step.memory)
    for p, memory in step.memories.items():
        states[p].update(memory)
    return counted


def is_maskable(groups: Sequence[Mapping[str, Any]], states: States) -> bool:
    """Tell whether a flag on the device can undo a step: not sparse gradients or plain values.

    Args:
        groups: of the optimizer.
        states: of the optimizer.

    Returns:
        Whether it can.
    """
    everything = [p for group in groups for p in group["params"]]
    return not (
        any(p.grad is not None and p.grad.is_sparse for p in everything)
        or any(group["step_scale"] in {"rms", "auto"} for group in groups)
        or any("origin" in kept and not kept["left_origin"] for kept in states.values())
    )


def _descend(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    states: States,
    verdict: Tensor | None,
    foreach: bool | None = None,
) -> list[State]:
    momenta = _momenta(group, params, states)
    with only_if(verdict, [*params, *(state["momentum_buffer"] for state in momenta)]):
        descend(params, grads, momenta, group, foreach)
    return momenta if verdict is not None else []


def _momenta(group: Mapping[str, Any], params: list[Tensor], states: States) -> list[State]:
    """Return the states with the momentum of some parameters of a group, made now if need be."""
    if group["momentum"] == 0:
        return []
    return [init_momentum(states[parameter], parameter) for parameter in params]
