"""The smallest normalised margin of a classifier."""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import normalized_margin
from virtualdepth.metrics._base import PlottedMetric, worst


class NormalizedMargin(PlottedMetric):
    r"""Keep the smallest margin over the end-to-end norm, :math:`\min_i m_i / \|W\|_F`.

    For losses with an exponential tail, under which weights grow without bound. ``update(scores,
    labels, weight)`` takes the scores of one batch, (samples, classes), or (samples,) for two
    classes, integer labels from 0 and the end-to-end matrix that gave the scores; ``compute()``
    returns the smallest normalised margin over all samples seen. With a matrix of zeros it is 0;
    rank deficiency does not matter.

    Pure function: :func:`virtualdepth.maths.normalized_margin`.

    Args:
        kwargs: what every torchmetrics metric takes.

    >>> metric = NormalizedMargin()
    >>> weight, inputs = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    >>> metric((inputs @ weight.T).squeeze(-1), torch.tensor([1, 0]), weight)  # 3 / 5
    tensor(0.6000)
    """

    is_differentiable: bool = True
    higher_is_better: bool | None = True
    smallest_normalized_margin: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("smallest_normalized_margin", torch.tensor(torch.inf), dist_reduce_fx="min")

    def update(self, scores: Tensor, labels: Tensor, weight: Tensor) -> None:
        """Add the scores and labels of a batch, and the matrix W, (m, n), that gave the scores."""
        self.smallest_normalized_margin = worst(
            [self.smallest_normalized_margin, normalized_margin(scores, labels, weight)],
            largest=False,
        )

    def compute(self) -> Tensor:
        """Return the smallest margin, a scalar."""
        return self.smallest_normalized_margin
