"""Which of the separating directions does depth find? Logistic loss on separable data."""

from virtualdepth_lab.reproduce.margin.run import TITLE, draw, run

__all__ = ["TITLE", "draw", "run"]
