"""When gradient descent on a deep linear network converges: the theorem, and without it."""

from virtualdepth_lab.reproduce.convergence.figures import draw
from virtualdepth_lab.reproduce.convergence.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
