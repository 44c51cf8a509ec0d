"""Fill in an image of which a fifth of the pixels is known, at several depths and convexly."""

from virtualdepth_lab.reproduce.image_inpainting.figures import draw
from virtualdepth_lab.reproduce.image_inpainting.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
