"""Explicit linear neural networks and their starting points (level 1)."""

from virtualdepth.networks import init
from virtualdepth.networks._deep_linear import DeepLinear

__all__ = ["DeepLinear", "init"]
