"""The error of a completed matrix over all, observed and unobserved entries."""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import squared_errors
from virtualdepth.metrics._base import PlottedMetric


class ReconstructionError(PlottedMetric):
    r"""Average :math:`(W - W^*)^2` over all, over the observed and over the unobserved entries.

    ``update(weight, target, observed)`` takes W, the truth W* and a boolean mask, each (..., m, n);
    ``compute()`` returns ``{"all": ..., "observed": ..., "unobserved": ...}``, means over all
    entries seen (for ``log_dict``), NaN where there were none. Zero and rank-deficient matrices are
    not special.

    Pure function: :func:`virtualdepth.maths.reconstruction_error`.

    Args:
        kwargs: what every torchmetrics metric takes.

    >>> metric = ReconstructionError()
    >>> metric(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), torch.tensor([[True, False]]))
    {'all': tensor(5.), 'observed': tensor(1.), 'unobserved': tensor(9.)}
    """

    is_differentiable: bool = True
    higher_is_better: bool | None = False
    plot_lower_bound: float = 0.0
    squared_errors: Tensor
    entries: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("squared_errors", torch.zeros(2), dist_reduce_fx="sum")
        self.add_state("entries", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, weight: Tensor, target: Tensor, observed: Tensor) -> None:
        """Add W, the truth W* and the mask, (..., m, n): a matrix, some of its rows, or a batch."""
        sums, counts = squared_errors(weight, target, observed)
        self._add_to("squared_errors", sums)
        self._add_to("entries", counts)

    def compute(self) -> dict[str, Tensor]:
        """Return the three means by name."""
        observed, unobserved = self.squared_errors / self.entries
        return {
            "all": self.squared_errors.sum() / self.entries.sum(),
            "observed": observed,
            "unobserved": unobserved,
        }
