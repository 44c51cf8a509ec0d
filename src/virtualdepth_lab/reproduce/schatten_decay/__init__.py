"""Weight decay at a depth minimises the loss plus a Schatten quasi-norm."""

from virtualdepth_lab.reproduce.schatten_decay.figures import draw
from virtualdepth_lab.reproduce.schatten_decay.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
