"""Explicit linear neural networks, their starting points, and thin copies of networks (level 1)."""

from virtualdepth.networks import init
from virtualdepth.networks._deep_linear import DeepLinear
from virtualdepth.networks._factorization import Factorization, FactorizedLayer
from virtualdepth.networks._factorize import factorize
from virtualdepth.networks._thin_pair import ThinPair

__all__ = ["DeepLinear", "Factorization", "FactorizedLayer", "ThinPair", "factorize", "init"]
