"""No regulariser makes gradient descent on one matrix do what depth does: the rule has curl."""

from virtualdepth_lab.reproduce.no_regulariser.figures import draw
from virtualdepth_lab.reproduce.no_regulariser.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
