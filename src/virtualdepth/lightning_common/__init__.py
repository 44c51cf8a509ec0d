"""What both flavours of Lightning share: mixins that know neither (level 2)."""

from virtualdepth.lightning_common.batches import ShuffledBatches, TensorBatches
from virtualdepth.lightning_common.data import TensorDataMixin
from virtualdepth.lightning_common.equivalence import EquivalenceMixin

__all__ = ["EquivalenceMixin", "ShuffledBatches", "TensorBatches", "TensorDataMixin"]
