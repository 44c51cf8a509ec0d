"""Callbacks that watch what depth does: mixins for both flavours of Lightning."""

from virtualdepth._lightning.monitors._alignment import AlignmentMixin
from virtualdepth._lightning.monitors._balancedness import BalancednessMixin
from virtualdepth._lightning.monitors._dynamics import DynamicsMixin
from virtualdepth._lightning.monitors._gap import GapMixin
from virtualdepth._lightning.monitors._loss_descent import LossDescentMixin
from virtualdepth._lightning.monitors._spectrum import SpectrumMixin

__all__ = [
    "AlignmentMixin",
    "BalancednessMixin",
    "DynamicsMixin",
    "GapMixin",
    "LossDescentMixin",
    "SpectrumMixin",
]
