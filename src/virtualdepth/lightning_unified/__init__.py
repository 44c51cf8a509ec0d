"""Depth under ``lightning.pytorch``, by the names of ``virtualdepth.lightning``."""

try:
    from lightning.pytorch import LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise ImportError(
        "virtualdepth.lightning_unified needs the package lightning: pip install "
        "'lightning!=2.6.2,!=2.6.3'. For pytorch_lightning there is virtualdepth.lightning: "
        "pip install 'virtualdepth[lightning]'"
    ) from error

from virtualdepth.lightning_common import EquivalenceMixin, TensorDataMixin

__all__ = ["EquivalenceModule", "TensorDataModule"]

# mypy is told that the mixins stand on pytorch_lightning; at run time they have no base.


class EquivalenceModule(EquivalenceMixin, LightningModule):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.EquivalenceMixin` for lightning.pytorch."""


class TensorDataModule(TensorDataMixin, LightningDataModule):  # type: ignore[misc]
    """:class:`~virtualdepth.lightning_common.TensorDataMixin` for lightning.pytorch."""
