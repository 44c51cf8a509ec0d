"""What the metrics share: a plot, and a state in the dtype of the matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PlottedMetric(Metric):
    """A metric that can be drawn.

    States are reassigned, as in ``self.total = self.total + value``, and never changed in place:
    they start in float32 and become float64 with the first float64 matrix.
    """

    full_state_update: bool = False

    def plot(self, val: Any = None, ax: "Axes | None" = None) -> Any:
        """Draw a value, or several as a series in time.

        Args:
            val: one result of ``compute`` or ``forward``, or a list of them; default: the current
                result.
            ax: where to draw; default: a new figure.

        Returns:
            The figure, None if ``ax`` was given, and the axes, as every torchmetrics metric does.
        """
        return self._plot(val, ax)


class MeanOverMatrices(PlottedMetric):
    """The mean of a measure over all matrices seen; subclasses define ``_measure``."""

    is_differentiable: bool = True
    higher_is_better: bool | None = None
    plot_lower_bound: float = 0.0
    total: Tensor
    matrices: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("matrices", torch.tensor(0), dist_reduce_fx="sum")

    def _measure(self, weight: Tensor) -> Tensor:
        """Compute the measure of each matrix, (...)."""
        raise NotImplementedError

    def update(self, weight: Tensor) -> None:
        """Add one matrix or a batch, (..., m, n)."""
        values = self._measure(weight)
        self.total = self.total + values.sum()
        self.matrices = self.matrices + values.numel()

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.matrices


def worst(values: Sequence[Tensor], largest: bool) -> Tensor:
    """Reduce tensors of any shapes to their largest or smallest entry, in the widest dtype."""
    together = torch.cat([value.flatten() for value in values])
    return together.max() if largest else together.min()
