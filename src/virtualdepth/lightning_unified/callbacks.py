"""The callbacks for lightning.pytorch."""

from lightning.pytorch import Callback

from virtualdepth.lightning_common import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)

# mypy is told that the mixins stand on pytorch_lightning; at run time they have no base.


class AlignmentMonitor(AlignmentMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.AlignmentMixin` for lightning.pytorch."""


class BalancednessMonitor(BalancednessMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.BalancednessMixin` for lightning.pytorch."""


class DynamicsMonitor(DynamicsMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.DynamicsMixin` for lightning.pytorch."""


class GapMonitor(GapMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.GapMixin` for lightning.pytorch."""


class LossDescentMonitor(LossDescentMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.LossDescentMixin` for lightning.pytorch."""


class SpectrumMonitor(SpectrumMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.SpectrumMixin` for lightning.pytorch."""
