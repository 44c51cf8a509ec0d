"""One step: find the matrices, compute, check that all is finite, write. Or write nothing."""

import math
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from virtualdepth.optim._finite_check import DISTRIBUTED, FiniteCheck
from virtualdepth.optim._matrices import (
    Caches,
    Group,
    GroupStep,
    States,
    begin_step,
)
from virtualdepth.optim._momentum import descend
from virtualdepth.optim._new_values import check_new_values
from virtualdepth.optim._options import OPTIONS, Checked, check_changed, check_group
from virtualdepth.optim._origin import change_since_origin, leave_origin
from virtualdepth.optim._replicas import Replicas
from virtualdepth.optim.sharded import Agreed, agreed_steps
from virtualdepth.optim.solvers import SOLVERS, solver_of
from virtualdepth.optim.step_scales import STEP_SCALES

_NO_CONTEXT: Final = nullcontext()


@dataclass
class Session:
    """What an optimizer knows between two steps, and does not save in a checkpoint."""

    finite: FiniteCheck = field(default_factory=FiniteCheck)
    caches: Caches = field(default_factory=dict)  # what solvers hold beside the states
    checked: Checked = field(default_factory=dict)
    agreed: Agreed = field(default_factory=Agreed)  # on sharded parameters
    replicas: Replicas = field(default_factory=Replicas)


def take_step(
    groups: Sequence[Group], states: States, session: Session, loss: float | None
) -> None:
    """Move every parameter that has a gradient, or none."""
    finite = session.finite
    if finite.pending:  # of the last step, on a device
        finite.raise_pending()
    try:
        compute, steps = partial(_compute, groups, states, session, loss), None
        if DISTRIBUTED and dist.is_initialized():
            session.replicas.compare(groups, OPTIONS)
            steps = agreed_steps(groups, states, session.caches, session.agreed, compute, finite)
        if steps is None:
            steps = compute()
    except BaseException:
        finite.drop()  # no step was taken that the next one could judge
        raise
    if finite.pending:  # on a device: whether all is finite is not known yet
        if _is_maskable(groups, states):
            finite.flag = finite.all_finite()
        else:
            finite.raise_pending()
    # torch may refuse a plain step, of a sparse gradient say: before any matrix has moved
    for step in steps:
        _commit_plain(step, finite)
    for step in steps:
        _commit_matrices(step, finite)


def without_autocast(groups: Sequence[Group]) -> AbstractContextManager[object]:
    """Switch autocast off on the devices of all parameters, where it is on."""
    kinds = {p.device.type for group in groups for p in group["params"]} - {"meta"}
    on = [kind for kind in kinds if torch.is_autocast_enabled(kind)]
    if not on:
        return _NO_CONTEXT
    stack = ExitStack()
    for kind in on:
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
    steps, deep = [], bool(without)
    for number, group in enumerate(groups):
        seen = check_changed(group, number, session.checked, check_group)
        step = begin_step(group, number, seen, states, session.caches, distributed=True)
        # that of each layer; at infinite depth, where the rule is divided by N, that of all
        depth = float(group["depth"])
        step.decay = float(group["weight_decay"]) * (depth if math.isfinite(depth) else 1.0)
        if without:
            step.matrices = [each for each in step.matrices if each.parameter not in without]
        if group["origin"] is not None:
            for matrix in step.matrices:
                matrix.weight = change_since_origin(matrix)
        rounded = group["momentum"] != 0
        scale = STEP_SCALES[group["step_scale"]]
        scale.compute(step, session.finite, lr=group["lr"], rounded=rounded, loss=loss)
        deep = deep or bool(step.matrices)
        steps.append(step)
    if deep:  # at depth 1 alone, what is not finite is torch's own business
        check_new_values(steps, session.finite)
    return steps


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
    if not step.plain:
        return
    group, plain = step.group, [p for _, p, _ in step.plain]
    grads = [grad for _, _, grad in step.plain]
    if group["nesterov"]:
        # torch's foreach implementation (not used on CPUs) adds Nesterov's term to gradients
        grads = [grad if grad.device.type == "cpu" else grad.clone() for grad in grads]
    descend(group, plain, grads, step.states, finite)


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
            if step.group["maximize"]:
                matrix.direction.neg_()
            if step.decay != 0:
                matrix.direction.add_(matrix.weight, alpha=step.decay)
            moving.append(matrix.parameter)
            directions.append(matrix.direction)
    # sign and decay are in the direction; it may be float32 beside a half parameter, which foreach
    # does not take
    group = {**step.group, "weight_decay": 0, "maximize": False}
    descend(group, moving, directions, step.states, finite, foreach=False)
    for where, what in step.writes:
        where.update(what)
    for matrix in step.matrices:
        if matrix.new_state and not idle:
            solver = solver_of(matrix)
            solver.init(matrix)
            finite.write(matrix.state, matrix.new_state)
            solver.moved(matrix)
