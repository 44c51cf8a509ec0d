"""Steps of other optimizers that are whole or not at all: what they did is undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from virtualdepth.optim._matrices import GroupStep, State
from virtualdepth.optim._step import Session
from virtualdepth.optim.solvers import BASIS_KEYS, solver_of


@dataclass
class WholeStep:
    """The step of another optimizer, and all that was there before it."""

    session: Session
    weights: dict[Tensor, Tensor] = field(default_factory=dict)
    states: dict[Any, Any] = field(default_factory=dict)
    groups: list[State] = field(default_factory=list)  # their options
    steps: list[GroupStep] = field(default_factory=list)  # for the block to fill in


@contextmanager
def whole_step(optimizer: Optimizer, *, several: bool = False) -> Iterator[WholeStep]:
    """Undo what the block does, unless it ends well and all that it wrote is finite.

    ``several`` says that parameters without a gradient may get one in the step.

    Yields:
        The step; weights that may move, and all state, are copied in it.
    """
    whole = WholeStep(vars(optimizer).setdefault("_depth_session", Session()))
    for group in optimizer.param_groups:
        own = {key: value for key, value in group.items() if key != "params"}
        for key, value in own.items():
            own[key] = value.clone() if isinstance(value, Tensor) else copy(value)
        whole.groups.append(own)
        for p in group["params"]:
            if several or p.grad is not None:
                whole.weights[p] = p.detach().clone()
    for p, state in optimizer.state.items():
        own_kind = isinstance(state, dict)  # beside parameters, torch lets any key have any value
        whole.states[p] = (
            {key: _copied(value, key) for key, value in state.items()}
            if own_kind
            else _copied(state)
        )
    try:
        yield whole
        _check_after(optimizer, whole)
    except BaseException:
        whole.session.finite.drop()
        _restore(optimizer, whole)
        raise
    for step in whole.steps:
        for where, values in step.writes:
            where.update(values)
        for matrix in filter(attrgetter("new_state"), step.matrices):
            # now that the optimizer has made its own
            matrix.state.update(matrix.new_state)
            solver_of(matrix).moved(matrix)


def _copied(value: Any, key: object = None) -> Any:
    """Copy one entry of a state, unless it is replaced by another and never written to."""
    if key in BASIS_KEYS:
        return value
    if isinstance(value, Tensor):
        return value.clone()
    # tree_map takes its time, and most entries are no containers
    holds = isinstance(value, dict | list | tuple)
    return tree_map_only(Tensor, torch.clone, value) if holds else value


@torch.no_grad()
def _check_after(optimizer: Optimizer, whole: WholeStep) -> None:
    """Refuse weights and state that are not finite; on a device this reads what is pending."""
    finite = whole.session.finite
    for step in whole.steps:
        moved = [(name, p) for name, p, _ in step.plain]
        for name, p in [*moved, *((matrix.name, matrix.parameter) for matrix in step.matrices)]:
            finite.check_all(name, "new weight", [p.detach()])
            state = optimizer.state.get(p, {})
            finite.check_all(name, "new state", map(state.get, state.keys() - BASIS_KEYS))
    if finite.pending:
        finite.raise_pending()


@torch.no_grad()
def _restore(optimizer: Optimizer, whole: WholeStep) -> None:
    """Put everything back as it was before the step."""
    for p, weight in whole.weights.items():
        p.copy_(weight)
    for group, own in zip(optimizer.param_groups, whole.groups, strict=True):
        for key in [key for key in group if key not in own and key != "params"]:
            del group[key]
        group.update(own)
    optimizer.state.clear()
    optimizer.state.update(whole.states)
