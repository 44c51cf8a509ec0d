"""Two matrices in place of each dense layer's: does a convolutional network train faster?"""

from virtualdepth_lab.reproduce.mnist.run import TITLE, draw, run

__all__ = ["TITLE", "draw", "run"]
