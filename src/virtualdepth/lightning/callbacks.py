"""The callbacks for pytorch_lightning."""

from pytorch_lightning import Callback

from virtualdepth._lightning import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)


class AlignmentMonitor(AlignmentMixin, Callback):
    """:class:`~virtualdepth._lightning.AlignmentMixin` for pytorch_lightning.

    >>> AlignmentMonitor("head", interval=100).layers
    'head'
    """


class BalancednessMonitor(BalancednessMixin, Callback):
    """:class:`~virtualdepth._lightning.BalancednessMixin` for pytorch_lightning.

    >>> BalancednessMonitor(interval=100).state_key
    "BalancednessMonitor{'layers': '*'}"
    """


class DynamicsMonitor(DynamicsMixin, Callback):
    """:class:`~virtualdepth._lightning.DynamicsMixin` for pytorch_lightning.

    >>> DynamicsMonitor("deep", top_k=3).interval
    50
    """


class GapMonitor(GapMixin, Callback):
    """:class:`~virtualdepth._lightning.GapMixin` for pytorch_lightning.

    >>> GapMonitor().series  # filled by Trainer.fit
    {}
    """


class LossDescentMonitor(LossDescentMixin, Callback):
    """:class:`~virtualdepth._lightning.LossDescentMixin` for pytorch_lightning.

    >>> LossDescentMonitor("deep", loss="loss_deep").violations
    0
    """


class SpectrumMonitor(SpectrumMixin, Callback):
    """:class:`~virtualdepth._lightning.SpectrumMixin` for pytorch_lightning.

    >>> SpectrumMonitor(["body.*", "head"], top_k=5).figures()  # nothing recorded yet
    {}
    """
