"""Tensors as products of vectors: their components grow one by one, as singular values do."""

from virtualdepth_lab.reproduce.tensor_factorization.figures import draw
from virtualdepth_lab.reproduce.tensor_factorization.run import TITLE, run

__all__ = ["TITLE", "draw", "run"]
