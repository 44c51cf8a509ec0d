"""The callbacks for lightning.pytorch."""

from lightning.pytorch import Callback

from virtualdepth._lightning import (
    AlignmentMixin,
    BalancednessMixin,
    DynamicsMixin,
    GapMixin,
    LossDescentMixin,
    SpectrumMixin,
)

# mypy is told that the mixins stand on pytorch_lightning; at run time they have no base.


class AlignmentMonitor(AlignmentMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.AlignmentMixin` for lightning.pytorch.

    >>> AlignmentMonitor("head", interval=100).layers
    'head'
    """


class BalancednessMonitor(BalancednessMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.BalancednessMixin` for lightning.pytorch.

    >>> BalancednessMonitor(interval=100).state_key
    "BalancednessMonitor{'layers': '*'}"
    """


class DynamicsMonitor(DynamicsMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.DynamicsMixin` for lightning.pytorch.

    >>> DynamicsMonitor("deep", top_k=3).interval
    50
    """


class GapMonitor(GapMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.GapMixin` for lightning.pytorch.

    >>> GapMonitor().series  # filled by Trainer.fit
    {}
    """


class LossDescentMonitor(LossDescentMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.LossDescentMixin` for lightning.pytorch.

    >>> LossDescentMonitor("deep", loss="loss_deep").violations
    0
    """


class SpectrumMonitor(SpectrumMixin, Callback):  # type: ignore[misc]
    """:class:`~virtualdepth._lightning.SpectrumMixin` for lightning.pytorch.

    >>> SpectrumMonitor(["body.*", "head"], top_k=5).figures()  # nothing recorded yet
    {}
    """
