"""Depth under ``pytorch_lightning`` (extra ``lightning``).

``virtualdepth.lightning_unified`` has the same names for the package ``lightning``; use the one
whose ``Trainer`` you use, since Lightning refuses modules of the other flavour.
"""

try:
    from pytorch_lightning import Callback, LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise ImportError(
        "virtualdepth.lightning needs pytorch-lightning: pip install 'virtualdepth[lightning]'"
    ) from error

from virtualdepth.lightning_common import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    EquivalenceMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
    TensorDataMixin,
    log_figure,
)

__all__ = [
    "AlignmentMonitor",
    "BalancednessMonitor",
    "DynamicsMonitor",
    "EquivalenceModule",
    "GapMonitor",
    "LossDescentMonitor",
    "SpectrumMonitor",
    "TensorDataModule",
    "log_figure",
]


class EquivalenceModule(EquivalenceMixin, LightningModule):
    """:class:`~virtualdepth.lightning_common.EquivalenceMixin` for pytorch_lightning."""


class TensorDataModule(TensorDataMixin, LightningDataModule):
    """:class:`~virtualdepth.lightning_common.TensorDataMixin` for pytorch_lightning."""


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
