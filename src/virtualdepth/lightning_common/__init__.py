"""What both flavours of Lightning share: mixins that know neither (level 2)."""

from virtualdepth.lightning_common.batches import ShuffledBatches, TensorBatches
from virtualdepth.lightning_common.callbacks import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)
from virtualdepth.lightning_common.data import TensorDataMixin
from virtualdepth.lightning_common.equivalence import EquivalenceMixin
from virtualdepth.lightning_common.figures import log_figure
from virtualdepth.lightning_common.virtual_depth import VirtualDepthMixin

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
