"""The worst gap to a reference, and the smallest deficiency margin."""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import deficiency_margin, end_to_end_gap
from virtualdepth.metrics._base import PlottedMetric, worst


class EndToEndGap(PlottedMetric):
    r"""Keep the largest relative gap of two matrices, :math:`\|W - W'\|_F / \|W'\|_F`.

    ``update(weight, reference)`` takes W and W', (..., m, n); ``compute()`` returns the largest gap
    seen, as ``virtualdepth verify`` reports it. Against a W' of zeros the gap is 0 if W is zero
    too, else inf; rank deficiency does not matter.

    Pure function: :func:`virtualdepth.maths.end_to_end_gap`.

    Args:
        kwargs: what every torchmetrics metric takes.

    >>> metric = EndToEndGap()
    >>> metric.update(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]]))
    >>> metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    >>> metric.compute()
    tensor(1.3333)
    """

    is_differentiable: bool = True
    higher_is_better: bool | None = False
    plot_lower_bound: float = 0.0
    largest_gap: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("largest_gap", torch.tensor(0.0), dist_reduce_fx="max")

    def update(self, weight: Tensor, reference: Tensor) -> None:
        """Add W and W', each (..., m, n)."""
        self.largest_gap = worst(
            [self.largest_gap, end_to_end_gap(weight, reference)], largest=True
        )

    def compute(self) -> Tensor:
        """Return the largest gap, a scalar."""
        return self.largest_gap


class DeficiencyMargin(PlottedMetric):
    r"""Keep the smallest deficiency margin, :math:`\sigma_{\min}(\Phi) - \|W - \Phi\|_F`.

    ``update(weight, target)`` takes W and Phi, (..., m, n); ``compute()`` returns the smallest
    margin seen, in the units of W. For a zero or rank-deficient target it is
    :math:`-\|W - \Phi\|_F`, never positive; a zero or rank-deficient W is not special.

    Pure function: :func:`virtualdepth.maths.deficiency_margin` (arXiv 1810.02281, Definition 2).

    Args:
        kwargs: what every torchmetrics metric takes.

    >>> metric = DeficiencyMargin()
    >>> metric(torch.diag(torch.tensor([2.0, 2.5])), torch.diag(torch.tensor([2.0, 3.0])))
    tensor(1.5000)
    """

    is_differentiable: bool = True
    higher_is_better: bool | None = True
    smallest_deficiency_margin: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("smallest_deficiency_margin", torch.tensor(torch.inf), dist_reduce_fx="min")

    def update(self, weight: Tensor, target: Tensor) -> None:
        """Add W and Phi, each (..., m, n)."""
        self.smallest_deficiency_margin = worst(
            [self.smallest_deficiency_margin, deficiency_margin(weight, target)], largest=False
        )

    def compute(self) -> Tensor:
        """Return the smallest margin, a scalar."""
        return self.smallest_deficiency_margin
