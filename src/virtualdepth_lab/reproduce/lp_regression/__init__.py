"""Does depth accelerate? l_2 and l_4 regression on one vector, against every other way to step."""

from virtualdepth_lab.reproduce.lp_regression.run import TITLE, draw, run

__all__ = ["TITLE", "draw", "run"]
