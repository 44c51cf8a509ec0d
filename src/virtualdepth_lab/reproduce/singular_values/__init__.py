"""How singular values grow: measured, against the theory's differential equation."""

from virtualdepth_lab.reproduce.singular_values.figures import draw
from virtualdepth_lab.reproduce.singular_values.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
