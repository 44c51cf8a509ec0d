"""Two matrices in place of each dense layer's: does a convolutional network train faster?"""

from virtualdepth_lab.reproduce.mnist.figures import draw
from virtualdepth_lab.reproduce.mnist.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
