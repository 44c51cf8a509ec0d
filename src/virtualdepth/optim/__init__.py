"""Optimizers that give depth to a layer (level 1)."""

from virtualdepth.optim.end_to_end_sgd import EndToEndSGD

__all__ = ["EndToEndSGD"]
