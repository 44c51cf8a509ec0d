"""When gradient descent on a deep linear network converges: the theorem, and without it."""

from virtualdepth_lab.reproduce.convergence.run import TITLE, draw, run

__all__ = ["TITLE", "draw", "run"]
