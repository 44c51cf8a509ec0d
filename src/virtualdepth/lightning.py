"""Depth under ``pytorch_lightning`` (extra ``lightning``).

``virtualdepth.lightning_unified`` has the same names for the package ``lightning``. Use the one
whose ``Trainer`` you use: Lightning refuses modules of the other flavour.
"""

from virtualdepth._extras import missing

try:
    import torchmetrics  # noqa: F401
    from pytorch_lightning import Callback, LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise missing("virtualdepth.lightning", error, "lightning") from error

from virtualdepth._lightning import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    EquivalenceMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
    TensorDataMixin,
    VirtualDepthMixin,
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
    "VirtualDepth",
    "log_figure",
]


class EquivalenceModule(EquivalenceMixin, LightningModule):
    __doc__ = EquivalenceMixin.__doc__


class TensorDataModule(TensorDataMixin, LightningDataModule):
    __doc__ = TensorDataMixin.__doc__


class VirtualDepth(VirtualDepthMixin, Callback):
    __doc__ = VirtualDepthMixin.__doc__


class SpectrumMonitor(SpectrumMixin, Callback):
    __doc__ = SpectrumMixin.__doc__


class BalancednessMonitor(BalancednessMixin, Callback):
    __doc__ = BalancednessMixin.__doc__


class AlignmentMonitor(AlignmentMixin, Callback):
    __doc__ = AlignmentMixin.__doc__


class DynamicsMonitor(DynamicsMixin, Callback):
    __doc__ = DynamicsMixin.__doc__


class GapMonitor(GapMixin, Callback):
    __doc__ = GapMixin.__doc__


class LossDescentMonitor(LossDescentMixin, Callback):
    __doc__ = LossDescentMixin.__doc__
