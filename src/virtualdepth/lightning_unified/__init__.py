"""Depth under ``lightning.pytorch``, by the names of ``virtualdepth.lightning``."""

try:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
except ModuleNotFoundError as error:
    raise ImportError(
        "virtualdepth.lightning_unified needs the package lightning: pip install "
        "'lightning!=2.6.2,!=2.6.3'. For pytorch_lightning there is virtualdepth.lightning: "
        "pip install 'virtualdepth[lightning]'"
    ) from error

from virtualdepth._lightning import (
    EquivalenceMixin,
    TensorDataMixin,
    VirtualDepthMixin,
    log_figure,
)
from virtualdepth.lightning_unified.callbacks import (
    AlignmentMonitor,
    BalancednessMonitor,
    DynamicsMonitor,
    GapMonitor,
    LossDescentMonitor,
    SpectrumMonitor,
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


# mypy is told that the mixins stand on pytorch_lightning; at run time they have no base.


class EquivalenceModule(EquivalenceMixin, LightningModule):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.EquivalenceMixin` for lightning.pytorch.

    >>> module = EquivalenceModule(in_features=8, out_features=3, depth=4, lr=0.1)
    >>> groups = module.configure_optimizers().param_groups
    >>> [(group["depth"], len(group["params"])) for group in groups]
    [(4, 1), (1, 4)]
    >>> module.measure()["gap"] < 1e-6  # one start
    tensor(True)
    """


class TensorDataModule(TensorDataMixin, LightningDataModule):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.TensorDataMixin` for lightning.pytorch.

    >>> import torch
    >>> data = TensorDataModule(torch.ones(10, 8), torch.ones(10, 3), batch_size=4)
    >>> [tuple(inputs.shape) for inputs, targets in data.train_dataloader()]
    [(4, 8), (4, 8), (2, 8)]
    """


class VirtualDepth(VirtualDepthMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.VirtualDepthMixin` for lightning.pytorch.

    >>> callback = VirtualDepth(depth=3, include="head*", on="update")
    >>> callback.depth, callback.include
    (3.0, 'head*')
    """
