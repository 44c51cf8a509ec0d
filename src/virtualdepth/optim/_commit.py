"""What changes parameters and state, once every step is computed; and the state there is to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._auto_step import init_auto
from virtualdepth.optim._directions import GroupStep, init_memory
from virtualdepth.optim._guard import only_if
from virtualdepth.optim._layers import LayersMemory, commit_layers, init_layers
from virtualdepth.optim._matrix_view import MatrixView
from virtualdepth.optim._momentum import State, descend, init_momentum
from virtualdepth.optim._origin import init_origin, leave_origin
from virtualdepth.optim._solvers import solver_of
from virtualdepth.optim._tracked import init_tracked

States = Mapping[Tensor, State]
# what stands or falls with a verdict: states, and what numbers were in them
Counted = list[tuple[State, dict[str, Any]]]


def init_state(group: dict[str, Any], states: States) -> None:
    """Make the state now that a step will need, so that a checkpoint can be loaded into it.

    Args:
        group: options and "params"; its memory is made too.
        states: of the optimizer; changed.
    """
    for index, parameter in enumerate(group["params"]):
        _init_solver(group, states, parameter, MatrixView.of(group, index))
    init_memory(group)
    if group["step_scale"] == "auto":
        init_auto(group, states)
    if group["origin"] is not None:
        for index, parameter in enumerate(group["params"]):
            if MatrixView.of(group, index) is not None:
                init_origin(states[parameter], parameter)
            else:  # distributed checkpoints want state for every parameter, or for none
                states[parameter].setdefault("left_origin", False)


def _init_solver(
    group: Mapping[str, Any], states: States, parameter: Tensor, view: MatrixView | None
) -> None:
    solver = group["solver"]
    if is_distributed(parameter):
        view = None  # a step refuses it, unless a checkpoint's solver is replaced before
    if solver == "layers" and view is not None:
        init_layers(states[parameter], parameter, view, group)
        return
    _momenta(group, [parameter], states)
    # distributed checkpoints want state for every parameter, or for none
    if solver == "layers":
        states[parameter].setdefault("layers_factored", False)
    if solver == "tracked":
        if view is not None and solver_of(group, view.split(parameter)) == solver:
            init_tracked(states[parameter], parameter, view)
        else:
            states[parameter].setdefault("tracked_steps", 0)


def commit_plain(
    group: dict[str, Any], step: GroupStep, states: States, verdict: Tensor | None
) -> Counted:
    """Move what has no depth, as torch.optim.SGD does.

    Args:
        group: options and "params".
        step: of the group's matrices.
        states: of the optimizer; changed.
        verdict: a flag on the device without which nothing may change; None lets all stand.

    Returns:
        What stands or falls with the verdict, as it was before.
    """
    moving = [(p, p.grad) for p in group["params"] if p.grad is not None]
    plain = [(p, grad) for p, grad in moving if p not in step.weights]
    # torch's foreach implementation (not used on CPUs) adds Nesterov's term to the gradients
    copies = group["nesterov"] and any(p.device.type != "cpu" for p, _ in plain)
    grads = [grad.clone() if copies else grad for _, grad in plain]
    return _descend(group, [p for p, _ in plain], grads, states, verdict)


def commit_matrices(
    group: dict[str, Any],
    step: GroupStep,
    states: States,
    layers: LayersMemory,
    verdict: Tensor | None,
) -> Counted:
    """Move the matrices along their directions, and remember what there is to remember.

    Args:
        group: options and "params"; its memory is changed.
        step: of the group's matrices.
        states: of the optimizer; changed.
        layers: what this step leaves of networks, beside the states; changed.
        verdict: as for :func:`commit_plain`.

    Returns:
        As there.
    """
    # the direction holds sign and decay already; it may be float32 beside a half parameter,
    # which foreach does not take
    finished = {**group, "weight_decay": 0, "maximize": False}
    moving, counted = [*step.directions], []
    # a step of rate 0, as checkpoints take to make state, must change nothing
    if group["origin"] and group["lr"] != 0:
        for p in moving:
            if not states[p]["left_origin"]:
                leave_origin(states[p], p, step.weights[p])
    # under a mask one by one, so that it keeps one matrix at a time
    for some in [moving] if verdict is None else [[p] for p in moving]:
        directions = [step.directions[p] for p in some]
        counted += _descend(finished, some, directions, states, verdict, foreach=False)
    for p, network in step.networks.items():
        layers[p] = commit_layers(p, network, states[p])
    group.update(step.memory)
    for p, memory in step.memories.items():
        counted += _remember(states[p], memory, verdict)
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
        or any(group["solver"] == "layers" for group in groups)
        or any("origin" in kept and not kept["left_origin"] for kept in states.values())
    )


def _descend(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    states: States,
    verdict: Tensor | None,
    foreach: bool | None = None,
) -> Counted:
    momenta = _momenta(group, params, states)
    counted = [] if verdict is None else [(state, {"step": state["step"]}) for state in momenta]
    with only_if(verdict, [*params, *(state["momentum_buffer"] for state in momenta)]):
        descend(params, grads, momenta, group, foreach)
    return counted


def _remember(state: State, memory: dict[str, Any], verdict: Tensor | None) -> Counted:
    if verdict is None:
        state.update(memory)
        return []
    numbers = {k: state[k] for k in memory if not isinstance(state[k], Tensor)}
    state.update(
        (k, v if k in numbers else torch.where(verdict.to(v.device), v, state[k]))
        for k, v in memory.items()
    )
    return [(state, numbers)]


def _momenta(group: Mapping[str, Any], params: list[Tensor], states: States) -> list[State]:
    """Return the states with the momentum of some parameters of a group, made now if need be."""
    if group["momentum"] == 0:
        return []
    return [init_momentum(states[parameter], parameter) for parameter in params]
