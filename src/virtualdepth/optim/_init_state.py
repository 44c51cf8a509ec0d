"""The state that a step will need, made before a checkpoint is loaded into it."""

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._matrices import Group, MatrixView, States, matrix_of
from virtualdepth.optim._momentum import init_momentum
from virtualdepth.optim._origin import init_origin
from virtualdepth.optim.solvers import SOLVERS, solver_of
from virtualdepth.optim.step_scales import STEP_SCALES


def init_state(group: Group, number: int, states: States) -> None:
    """Make the state of each parameter of a group, and the memory of the group."""
    for index in range(len(group["params"])):
        _init_parameter(group, number, index, states)
    STEP_SCALES[group["step_scale"]].init(group, states)
    if group["origin"] is not None:
        for index, parameter in enumerate(group["params"]):
            if MatrixView.of(group, index) is not None:
                init_origin(states[parameter], parameter)
            else:  # distributed checkpoints want state for every parameter, or for none
                states[parameter].setdefault("left_origin", False)


def _init_parameter(group: Group, number: int, index: int, states: States) -> None:
    """Make the momentum and what the solver keeps, of one parameter."""
    solver, parameter = SOLVERS[group["solver"]], group["params"][index]
    matrix = matrix_of(group, number, index, states)
    if matrix is not None and is_distributed(parameter):
        matrix = None  # a step refuses it, unless a checkpoint's solver is replaced before
    served = matrix is not None and solver_of(matrix) is solver
    if group["momentum"] != 0 and not (served and solver.moves_parameter):
        init_momentum(states[parameter], parameter)
    if matrix is not None and served:
        solver.init(matrix)
    elif solver.keeps_state:
        solver.init_other(states[parameter])
