"""Does depth accelerate? l_2 and l_4 regression on one vector, against every other way to step."""

from virtualdepth_lab.reproduce.lp_regression.figures import draw
from virtualdepth_lab.reproduce.lp_regression.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
