"""Optimizers that give depth to a layer (level 1)."""

from virtualdepth.optim._depth_subclass import DEPTH_OPTIONS
from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._matrices import MatrixView
from virtualdepth.optim._options import OPTIONS, OnName, OriginName, SchemeName
from virtualdepth.optim._param_groups import Patterns, param_groups
from virtualdepth.optim._preconditioners import Preconditioning, preconditioners
from virtualdepth.optim._routing import routing
from virtualdepth.optim._with_depth import DepthChoice, give_depth, keeps_depth, with_depth
from virtualdepth.optim.solvers import SOLVERS, SolverName, StatelessSolverName
from virtualdepth.optim.step_scales import MiniBatchWarning, MultiplierName, StepScaleName

__all__ = [
    "DEPTH_OPTIONS",
    "OPTIONS",
    "SOLVERS",
    "DepthChoice",
    "EndToEndSGD",
    "MatrixView",
    "MiniBatchWarning",
    "MultiplierName",
    "OnName",
    "OriginName",
    "Patterns",
    "Preconditioning",
    "SchemeName",
    "SolverName",
    "StatelessSolverName",
    "StepScaleName",
    "give_depth",
    "keeps_depth",
    "param_groups",
    "preconditioners",
    "routing",
    "with_depth",
]
