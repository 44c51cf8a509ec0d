"""Which norm does depth minimise? Two linear problems with commuting measurements."""

from virtualdepth_lab.reproduce.norms.figures import draw
from virtualdepth_lab.reproduce.norms.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
