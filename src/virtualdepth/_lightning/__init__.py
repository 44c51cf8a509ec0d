"""What both flavours of Lightning share: mixins that know neither (level 2)."""

from virtualdepth._lightning._batches import ShuffledBatches, TensorBatches
from virtualdepth._lightning._data import TensorDataMixin
from virtualdepth._lightning._equivalence import EquivalenceMixin
from virtualdepth._lightning._figures import log_figure
from virtualdepth._lightning._virtual_depth import VirtualDepthMixin
from virtualdepth._lightning.monitors import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)

__all__ = [
    "AlignmentMixin",
    "BalancednessMixin",
    "DynamicsMixin",
    "EquivalenceMixin",
    "GapMixin",
    "LossDescentMixin",
    "ShuffledBatches",
    "SpectrumMixin",
    "TensorBatches",
    "TensorDataMixin",
    "VirtualDepthMixin",
    "log_figure",
]
