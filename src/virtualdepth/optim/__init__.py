"""Optimizers that give depth to a layer (level 1)."""

from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._param_groups import param_groups
from virtualdepth.optim._routing import routing
from virtualdepth.optim._with_depth import with_depth

__all__ = ["EndToEndSGD", "param_groups", "routing", "with_depth"]
