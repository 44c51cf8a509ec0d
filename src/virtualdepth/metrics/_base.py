"""What the metrics share: a plot, and a state in the dtype of the matrices."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from virtualdepth.maths import StructureName, check_structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Gather = Callable[..., list[Tensor]]

# of states: counts are integers, unless a user gave the metric another dtype
_DTYPES = (torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.float64)


class PlottedMetric(Metric):
    """A metric that can be drawn.

    States are reassigned, as in ``self.gap = self.gap + value``, and never changed in place: they
    start in float32 and become float64 with the first float64 matrix. A ``MetricCollection`` lets
    metrics share states of one name and one first value, so each name stands for one measure with
    its options.
    """

    full_state_update: bool = False

    def _add_to(self, state: str, value: Tensor | int) -> None:
        """Add a value to a state."""
        setattr(self, state, getattr(self, state) + value)

    def sync(self, dist_sync_fn: Gather | None = None, *args: Any, **kwargs: Any) -> None:
        """Combine the states of all processes, which may have seen different dtypes, or nothing."""
        super().sync(dist_sync_fn or gather_in_widest_dtype, *args, **kwargs)

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
    matrices: Tensor

    def __init__(
        self, structure: StructureName = "matrix", *, options: Sequence[object] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.structure = check_structure(structure)
        # the name that a checkpoint may hold: that of a matrix does not tell the structure
        parts = [*options, *(name for name in [self.structure] if name != "matrix")]
        self._total = "_".join(["total", type(self).__name__, *map(str, parts)])
        self.add_state(self._total, torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("matrices", torch.tensor(0), dist_reduce_fx="sum")

    def _measure(self, weight: Tensor) -> Tensor:
        """Compute the measure of each matrix, (...)."""
        raise NotImplementedError

    def update(self, weight: Tensor) -> None:
        """Add one matrix or a batch, (..., m, n), or one parameter of another structure."""
        values = self._measure(weight)
        self._add_to(self._total, values.sum())
        self._add_to("matrices", values.numel())

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        total: Tensor = getattr(self, self._total)
        return total / self.matrices


def worst(values: Sequence[Tensor], largest: bool) -> Tensor:
    """Reduce tensors of any shapes to their largest or smallest entry, in the widest dtype."""
    together = torch.cat([value.flatten() for value in values])
    return together.max() if largest else together.min()


def gather_in_widest_dtype(state: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state from all processes in one dtype that holds the dtypes of all."""
    # gloo ends a process that receives more bytes than it expects
    code = torch.tensor(_DTYPES.index(state.dtype), device=state.device)
    codes = [int(each) for each in gather_all_tensors(code, group)]
    dtype = functools.reduce(torch.promote_types, (_DTYPES[each] for each in codes))
    gathered: list[Tensor] = gather_all_tensors(state.to(dtype), group)
    return gathered
