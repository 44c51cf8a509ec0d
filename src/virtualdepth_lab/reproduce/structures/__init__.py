"""One rule, two knobs: structures of a weight, and the imbalance of its layers."""

from virtualdepth_lab.reproduce.structures.figures import draw
from virtualdepth_lab.reproduce.structures.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
