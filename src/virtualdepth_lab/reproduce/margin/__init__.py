"""Which of the separating directions does depth find? Logistic loss on separable data."""

from virtualdepth_lab.reproduce.margin.figures import draw
from virtualdepth_lab.reproduce.margin.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
