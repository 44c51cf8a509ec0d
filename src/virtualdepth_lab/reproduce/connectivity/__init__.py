"""Paths between solutions: straight lines, paths of linear networks, and dropout stability."""

from virtualdepth_lab.reproduce.connectivity.figures import draw
from virtualdepth_lab.reproduce.connectivity.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
