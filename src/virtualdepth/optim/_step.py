"""One step: find the matrices, compute, check that all is finite, write. Or write nothing."""

import math
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter

import torch
import torch.distributed as dist
from torch import Tensor

from virtualdepth.optim._finite_check import FiniteCheck, only_if
from virtualdepth.optim._matrices import (
    Caches,
    Group,
    GroupStep,
    States,
    matrices,
)
from virtualdepth.optim._momentum import descend, init_momentum
from virtualdepth.optim._options import Checked, check_changed, check_group
from virtualdepth.optim._origin import change_since_origin, check_origin, leave_origin
from virtualdepth.optim.sharded import agreed_steps, parts
from virtualdepth.optim.solvers import SOLVERS, solver_of
from virtualdepth.optim.step_scales import STEP_SCALES


@dataclass
class Session:
    """What an optimizer knows between two steps, and does not save in a checkpoint."""

    finite: FiniteCheck = field(default_factory=FiniteCheck)
    caches: Caches = field(default_factory=dict)  # what solvers hold beside the states
    checked: Checked = field(default_factory=dict)
    compared: bool = False  # whether all processes are known to have the same parameters


def take_step(
    groups: Sequence[Group], states: States, session: Session, loss: float | None
) -> None:
    """Move every parameter that has a gradient, or none."""
    finite = session.finite
    if finite.pending:  # of the last step, on a device
        finite.raise_pending()
    try:
        # without processes nothing is sharded
        shared = parts(groups) if dist.is_available() and dist.is_initialized() else []
        compute = partial(_compute, groups, states, session, loss)
        if shared:
            compute = partial(compute, without={part.parameter for part in shared})
            steps = agreed_steps(groups, shared, compute, finite, first=not session.compared)
            session.compared = True
        else:
            steps = compute()
    except BaseException:
        finite.drop()  # no step was taken that the next one could judge
        raise
    if finite.pending:  # on a device: whether all is finite is not known yet
        if _is_maskable(groups, states):
            finite.flag = finite.all_finite()
        else:
            finite.raise_pending()
    for step in steps:
        _add_decay(step)
    # torch may refuse a plain step, of a sparse gradient say: before any matrix has moved
    for step in steps:
        _commit_plain(step, finite)
    for step in steps:
        _commit_matrices(step, finite)


def without_autocast(groups: Sequence[Group]) -> AbstractContextManager[object]:
    """Switch autocast off on the devices of all parameters, where it is on."""
    stack, kinds = ExitStack(), set()
    for group in groups:
        for p in group["params"]:
            kinds.add(p.device.type)
    for kind in kinds:
        if kind != "meta" and torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
    return stack


def _compute(
    groups: Sequence[Group],
    states: States,
    session: Session,
    loss: float | None,
    without: Collection[Tensor] = (),
) -> list[GroupStep]:
    """Compute the step of all matrices but the sharded ones; neither weights nor states change."""
    steps = []
    for number, group in enumerate(groups):
        check_changed(group, number, session.checked, check_group)
        step = GroupStep(group, states, [])
        for matrix in matrices(group, number, states, session.caches, distributed=True):
            if matrix.parameter in without:
                continue
            SOLVERS[group["solver"]].check(matrix)
            if group["origin"] is not None:
                check_origin(matrix)
            if matrix.parameter.grad is None:
                continue
            matrix.grad = matrix.parameter.grad
            step.matrices.append(matrix)
            if group["origin"] is not None:
                matrix.weight = change_since_origin(matrix)
        rounded = group["momentum"] != 0
        scale = STEP_SCALES[group["step_scale"]]
        scale.compute(step, session.finite, lr=group["lr"], rounded=rounded, loss=loss)
        steps.append(step)
    return steps


def _add_decay(step: GroupStep) -> None:
    """Give the directions their sign, and the decay of all N layers: d + N lambda W."""
    depth, decay = float(step.group["depth"]), step.group["weight_decay"]
    layers = 1.0 if math.isinf(depth) else depth
    for matrix in step.matrices:
        if matrix.direction is not None:
            if step.group["maximize"]:
                matrix.direction.neg_()
            if decay != 0:
                matrix.direction.add_(matrix.weight, alpha=layers * decay)


def _is_maskable(groups: Sequence[Group], states: States) -> bool:
    """Tell whether a flag on the device can undo a step: not sparse gradients or plain values."""
    return not (
        any(p.grad is not None and p.grad.is_sparse for group in groups for p in group["params"])
        or not all(STEP_SCALES[group["step_scale"]].maskable for group in groups)
        or not all(SOLVERS[group["solver"]].maskable for group in groups)
        or any("origin" in state and not state["left_origin"] for state in states.values())
    )


def _commit_plain(step: GroupStep, finite: FiniteCheck) -> None:
    """Move what has no depth, as torch.optim.SGD does."""
    group, deep = step.group, set(map(attrgetter("parameter"), step.matrices))
    plain, grads = [], []
    for p in group["params"]:
        if p.grad is not None and p not in deep:
            # torch's foreach implementation (not used on CPUs) adds Nesterov's term to gradients
            copied = group["nesterov"] and p.device.type != "cpu"
            plain.append(p)
            grads.append(p.grad.clone() if copied else p.grad)
    _descend(group, plain, grads, step.states, finite)


def _commit_matrices(step: GroupStep, finite: FiniteCheck) -> None:
    """Move the matrices, and remember what there is to remember."""
    # a step of rate 0, as checkpoints take to make state, must change nothing
    idle, has_origin = step.group["lr"] == 0, step.group["origin"] is not None
    moving, directions = [], []
    for matrix in step.matrices:
        if has_origin and not idle:
            leave_origin(matrix)
        if matrix.direction is None:
            solver_of(matrix).commit(matrix)
        else:
            moving.append(matrix.parameter)
            directions.append(matrix.direction)
    # sign and decay are in the direction; it may be float32 beside a half parameter, which foreach
    # does not take
    group = {**step.group, "weight_decay": 0, "maximize": False}
    if finite.flag is None:
        _descend(group, moving, directions, step.states, finite, foreach=False)
    else:  # one by one: one copy of a parameter at a time
        for p, direction in zip(moving, directions, strict=True):
            _descend(group, [p], [direction], step.states, finite, foreach=False)
    for where, what in step.writes:
        where.update(what)
    for matrix in step.matrices:
        if matrix.new_state and not idle:
            finite.write(matrix.state, matrix.new_state)


def _descend(
    group: Group,
    params: list[Tensor],
    grads: list[Tensor],
    states: States,
    finite: FiniteCheck,
    foreach: bool | None = None,
) -> None:
    """Take torch's step, unless the flag says that something is not finite."""
    momenta = []
    if group["momentum"] != 0:
        momenta = [init_momentum(states[p], p) for p in params]
    if finite.flag is None:
        descend(group, params, grads, momenta, foreach)
        return
    finite.before += [(state, {"step": state["step"]}) for state in momenta]
    with only_if(finite.flag, [*params, *(state["momentum_buffer"] for state in momenta)]):
        descend(group, params, grads, momenta, foreach)
