"""Callbacks that watch what depth does: mixins for both flavours of Lightning."""

from virtualdepth.lightning_common.callbacks.alignment import AlignmentMixin
from virtualdepth.lightning_common.callbacks.balancedness import BalancednessMixin
from virtualdepth.lightning_common.callbacks.descent import LossDescentMixin
from virtualdepth.lightning_common.callbacks.dynamics import DynamicsMixin
from virtualdepth.lightning_common.callbacks.gap import GapMixin
from virtualdepth.lightning_common.callbacks.spectrum import SpectrumMixin

__all__ = [
    "AlignmentMixin",
    "BalancednessMixin",
    "DynamicsMixin",
    "GapMixin",
    "LossDescentMixin",
    "SpectrumMixin",
]
