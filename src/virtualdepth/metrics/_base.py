"""What the metrics share: a plot, and a state that keeps the dtype of its matrices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PlottedMetric(Metric):
    """A metric that can be drawn.

    States are reassigned, ``self.total = self.total + value``, never changed in place: they start
    in float32, and only so do they become float64 with the first float64 matrix.
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
    """The mean of a measure over all matrices seen; subclasses say which, in ``_measure``."""

    is_differentiable: bool = True
    plot_lower_bound: float = 0.0
    total: Tensor
    matrices: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("matrices", torch.tensor(0), dist_reduce_fx="sum")

    def _measure(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, weight: Tensor) -> None:
        """Take in one matrix or a batch of them.

        Args:
            weight: W, (..., m, n), finite.
        """
        values = self._measure(weight)
        self.total = self.total + values.sum()
        self.matrices = self.matrices + values.numel()

    def compute(self) -> Tensor:
        """Average.

        Returns:
            A scalar.
        """
        return self.total / self.matrices


def worst(values: Sequence[Tensor], largest: bool) -> Tensor:
    """Reduce to one extreme, in the widest dtype among the inputs.

    Args:
        values: tensors of any shapes.
        largest: the largest rather than the smallest.

    Returns:
        A scalar.

    >>> worst([torch.tensor(1.0), torch.tensor([3.0, 2.0])], largest=True)
    tensor(3.)
    """
    together = torch.cat([value.flatten() for value in values])
    return together.max() if largest else together.min()
