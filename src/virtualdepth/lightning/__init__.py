"""Depth under ``pytorch_lightning`` (extra ``lightning``).

``virtualdepth.lightning_unified`` has the same names for the package ``lightning``; use the one
whose ``Trainer`` you use, since Lightning refuses modules of the other flavour.
"""

try:
    from pytorch_lightning import LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise ImportError(
        "virtualdepth.lightning needs pytorch-lightning: pip install 'virtualdepth[lightning]'"
    ) from error

from virtualdepth.lightning_common import EquivalenceMixin, TensorDataMixin

__all__ = ["EquivalenceModule", "TensorDataModule"]


class EquivalenceModule(EquivalenceMixin, LightningModule):
    """:class:`~virtualdepth.lightning_common.EquivalenceMixin` for pytorch_lightning."""


class TensorDataModule(TensorDataMixin, LightningDataModule):
    """:class:`~virtualdepth.lightning_common.TensorDataMixin` for pytorch_lightning."""
