"""Optimizers that give depth to a layer (level 1)."""

from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._matrices import MatrixView
from virtualdepth.optim._options import OnName, OriginName, SchemeName
from virtualdepth.optim._param_groups import Patterns, param_groups
from virtualdepth.optim._routing import routing
from virtualdepth.optim._with_depth import with_depth
from virtualdepth.optim.solvers import SOLVERS, SolverName
from virtualdepth.optim.step_scales import StepScaleName

__all__ = [
    "SOLVERS",
    "EndToEndSGD",
    "MatrixView",
    "OnName",
    "OriginName",
    "Patterns",
    "SchemeName",
    "SolverName",
    "StepScaleName",
    "param_groups",
    "routing",
    "with_depth",
]
