"""Depth under ``lightning.pytorch``, with the names of ``virtualdepth.lightning``."""

from virtualdepth._extras import missing

try:
    import torchmetrics  # noqa: F401
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "lightning":
        raise missing("virtualdepth.lightning_unified", error, "lightning") from error
    raise ModuleNotFoundError(
        "virtualdepth.lightning_unified needs the package lightning: pip install "
        "'lightning!=2.6.2,!=2.6.3'. For pytorch_lightning there is virtualdepth.lightning: "
        "pip install 'virtualdepth[lightning]'",
        name=error.name,
    ) from error

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

# misc: to mypy the mixins have a base of pytorch_lightning, whose methods differ from these.


class EquivalenceModule(EquivalenceMixin, LightningModule):  # type: ignore[misc]
    __doc__ = EquivalenceMixin.__doc__


class TensorDataModule(TensorDataMixin, LightningDataModule):  # type: ignore[misc]
    __doc__ = TensorDataMixin.__doc__


class VirtualDepth(VirtualDepthMixin, Callback):  # type: ignore[misc]
    __doc__ = VirtualDepthMixin.__doc__


class SpectrumMonitor(SpectrumMixin, Callback):  # type: ignore[misc]
    __doc__ = SpectrumMixin.__doc__


class BalancednessMonitor(BalancednessMixin, Callback):  # type: ignore[misc]
    __doc__ = BalancednessMixin.__doc__


class AlignmentMonitor(AlignmentMixin, Callback):  # type: ignore[misc]
    __doc__ = AlignmentMixin.__doc__


class DynamicsMonitor(DynamicsMixin, Callback):  # type: ignore[misc]
    __doc__ = DynamicsMixin.__doc__


class GapMonitor(GapMixin, Callback):  # type: ignore[misc]
    __doc__ = GapMixin.__doc__


class LossDescentMonitor(LossDescentMixin, Callback):  # type: ignore[misc]
    __doc__ = LossDescentMixin.__doc__
