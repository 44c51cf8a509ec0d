"""Rerun the published matrix completion table with one matrix, the explicit network beside it."""

from virtualdepth_lab.reproduce.matrix_completion.figures import draw
from virtualdepth_lab.reproduce.matrix_completion.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
