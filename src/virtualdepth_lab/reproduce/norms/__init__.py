"""Which norm does depth minimise? Two linear problems with commuting measurements."""

from virtualdepth_lab.reproduce.norms.run import TITLE, draw, run

__all__ = ["TITLE", "draw", "run"]
