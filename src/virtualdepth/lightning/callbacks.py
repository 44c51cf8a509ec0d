"""The callbacks for pytorch_lightning."""

from pytorch_lightning import Callback

from virtualdepth.lightning_common import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)


class AlignmentMonitor(AlignmentMixin, Callback):
    """:class:`~virtualdepth.lightning_common.AlignmentMixin` for pytorch_lightning."""


class BalancednessMonitor(BalancednessMixin, Callback):
    """:class:`~virtualdepth.lightning_common.BalancednessMixin` for pytorch_lightning."""


class DynamicsMonitor(DynamicsMixin, Callback):
    """:class:`~virtualdepth.lightning_common.DynamicsMixin` for pytorch_lightning."""


class GapMonitor(GapMixin, Callback):
    """:class:`~virtualdepth.lightning_common.GapMixin` for pytorch_lightning."""


class LossDescentMonitor(LossDescentMixin, Callback):
    """:class:`~virtualdepth.lightning_common.LossDescentMixin` for pytorch_lightning."""


class SpectrumMonitor(SpectrumMixin, Callback):
    """:class:`~virtualdepth.lightning_common.SpectrumMixin` for pytorch_lightning."""
