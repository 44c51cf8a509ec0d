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

from virtualdepth._lightning import (
    EquivalenceMixin,
    TensorDataMixin,
    VirtualDepthMixin,
    log_figure,
)
from virtualdepth.lightning.callbacks import (
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


class EquivalenceModule(EquivalenceMixin, LightningModule):
    """:class:`~virtualdepth._lightning.EquivalenceMixin` for pytorch_lightning.

    >>> module = EquivalenceModule(in_features=8, out_features=3, depth=4, lr=0.1)
    >>> groups = module.configure_optimizers().param_groups
    >>> [(group["depth"], len(group["params"])) for group in groups]
    [(4, 1), (1, 4)]
    >>> module.measure()["gap"] < 1e-6  # one start
    tensor(True)
    """


class TensorDataModule(TensorDataMixin, LightningDataModule):
    """:class:`~virtualdepth._lightning.TensorDataMixin` for pytorch_lightning.

    >>> import torch
    >>> data = TensorDataModule(torch.ones(10, 8), torch.ones(10, 3), batch_size=4)
    >>> [tuple(inputs.shape) for inputs, targets in data.train_dataloader()]
    [(4, 8), (4, 8), (2, 8)]
    """


class VirtualDepth(VirtualDepthMixin, Callback):
    """:class:`~virtualdepth._lightning.VirtualDepthMixin` for pytorch_lightning.

    >>> callback = VirtualDepth(depth=3, include="head*", on="update")
    >>> callback.depth, callback.include
    (3.0, 'head*')
    """
