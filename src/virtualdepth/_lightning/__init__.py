"""What both flavours of Lightning share: mixins that import neither (level 2).

To type checkers their base is that of ``pytorch_lightning``; at run time they have none.
"""

from virtualdepth._lightning._batches import ShuffledBatches, TensorBatches, TensorDataMixin
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
