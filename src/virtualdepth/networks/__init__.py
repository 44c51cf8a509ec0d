"""Explicit linear networks and factorised tensors, their starts, and thin copies (level 1)."""

from virtualdepth.networks import init
from virtualdepth.networks._deep_linear import DeepLinear
from virtualdepth.networks._factorization import Factorization, FactorizedLayer
from virtualdepth.networks._factorize import factorize
from virtualdepth.networks._tensors import CPTensor, FactorizedTensor, HierarchicalTensor
from virtualdepth.networks._thin_pair import ThinPair

__all__ = [
    "CPTensor",
    "DeepLinear",
    "Factorization",
    "FactorizedLayer",
    "FactorizedTensor",
    "HierarchicalTensor",
    "ThinPair",
    "factorize",
    "init",
]
