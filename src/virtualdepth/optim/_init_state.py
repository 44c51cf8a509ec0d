"""The state that a step will need, made before a checkpoint is loaded into it."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._matrices import Group, MatrixView, State, States, matrix_of
from virtualdepth.optim._momentum import init_momentum
from virtualdepth.optim._origin import init_origin
from virtualdepth.optim.solvers import SOLVERS, solver_of
from virtualdepth.optim.step_scales import STEP_SCALES


def init_state(group: Group, number: int, states: States) -> None:
    """Make the state of each parameter that a group trains, and the memory of the group."""
    STEP_SCALES[group["step_scale"]].init(group, states)
    for index, parameter in enumerate(group["params"]):
        if is_lazy(parameter) or not parameter.requires_grad:
            continue  # a first step makes it, if there is to be one
        _init_parameter(group, number, index, states)
        if group["origin"] is not None:
            if MatrixView.of(group, index) is not None:
                init_origin(states[parameter], parameter)
            else:  # distributed checkpoints want state for every parameter, or for none
                states[parameter].setdefault("left_origin", False)


def even_out(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Give every parameter a state, if only an empty one, or none; distributed checkpoints ask so.

    This is for what is saved: an optimizer may ask whether a parameter is in its state at all.
    """
    states = state_dict["state"]
    params = [p for group in state_dict["param_groups"] for p in group["params"]]
    if any(states.get(p) for p in params):
        for p in params:
            states.setdefault(p, {})
    else:
        for p in params:
            states.pop(p, None)
    return state_dict


def drop_empty(groups: Sequence[Group], states: MutableMapping[Tensor, State]) -> None:
    """Forget the empty states that :func:`even_out` put into a checkpoint."""
    for p in [p for group in groups for p in group["params"]]:
        if p in states and not states[p]:
            del states[p]


def _init_parameter(group: Group, number: int, index: int, states: States) -> None:
    """Make the momentum and what the solver keeps, of one parameter."""
    solver, parameter = SOLVERS[group["solver"]], group["params"][index]
    matrix = matrix_of(group, number, index, states)
    own = None if matrix is None else solver_of(matrix)
    if own is not None and is_distributed(parameter) and not own.sharded:
        own = None  # a step refuses it, unless a checkpoint's solver is replaced before
    if group["momentum"] != 0 and not (own is solver and solver.moves_parameter):
        init_momentum(states[parameter], parameter)
    if matrix is not None and own is not None and own.keeps_state:
        own.init(matrix)
    elif solver.keeps_state:
        solver.init_other(states[parameter])
