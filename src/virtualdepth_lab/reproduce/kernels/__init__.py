"""Tangent kernels: of networks as they grow wide, of layers under depth, and as predictors."""

from virtualdepth_lab.reproduce.kernels.figures import draw
from virtualdepth_lab.reproduce.kernels.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
