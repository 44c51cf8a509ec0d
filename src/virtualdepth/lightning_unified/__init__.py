"""Depth under ``lightning.pytorch``, by the names of ``virtualdepth.lightning``."""

try:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise ImportError(
        "virtualdepth.lightning_unified needs the package lightning: pip install "
        "'lightning!=2.6.2,!=2.6.3'. For pytorch_lightning there is virtualdepth.lightning: "
        "pip install 'virtualdepth[lightning]'"
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

# mypy is told that the mixins stand on pytorch_lightning; at run time they have no base.


class EquivalenceModule(EquivalenceMixin, LightningModule):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.EquivalenceMixin` for lightning.pytorch."""


class TensorDataModule(TensorDataMixin, LightningDataModule):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.TensorDataMixin` for lightning.pytorch."""


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
