"""The worst imbalance of each pair of adjacent layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import balancedness, relative_balancedness
from virtualdepth.metrics._base import PlottedMetric


class Balancedness(PlottedMetric):
    r"""Keep each pair's largest defect, :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F`.

    ``update(factors)`` takes [W_1, ..., W_N], W_1 applied first; ``compute()`` returns (N-1,), a
    scalar for N = 2, in the units of a squared weight. If ``relative``, each is divided by
    :math:`\|W_{j+1}\|_F^2 + \|W_j\|_F^2`, has no unit and lies between 0 and 1. Two layers of zeros
    are balanced (0); one beside another layer gives a relative defect of up to 1. Rank deficiency
    does not matter.

    Pure functions: :func:`virtualdepth.balancedness` (arXiv 1810.02281, Definition 1) and
    :func:`virtualdepth.maths.relative_balancedness`.

    Args:
        depth: number of layers N >= 2.
        relative: divide by the layers' norms.
        kwargs: what every torchmetrics metric takes.

    Raises:
        ValueError: if ``depth`` is not an integer >= 2.

    >>> factors = [torch.eye(2), 2 * torch.eye(2), 2 * torch.eye(2)]
    >>> Balancedness(depth=3)(factors)  # 3 sqrt(2) and 0
    tensor([4.2426, 0.0000])
    >>> Balancedness(depth=3, relative=True)(factors)  # 3 sqrt(2) / 10 and 0
    tensor([0.4243, 0.0000])
    """

    is_differentiable: bool = True
    higher_is_better: bool | None = False
    plot_lower_bound: float = 0.0
    plot_legend_name: str = "pair"

    def __init__(self, depth: int, relative: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if depth < 2 or depth % 1 != 0:
            raise ValueError(f"depth: expected an integer >= 2 but got {depth!r}")
        self.depth = int(depth)
        self.relative = relative
        self._defects = "relative_defects" if relative else "defects"
        self.add_state(self._defects, torch.zeros(self.depth - 1), dist_reduce_fx="max")

    def update(self, factors: Sequence[Tensor]) -> None:
        """Add [W_1, ..., W_N], W_1 applied first, of one network or of a batch."""
        if len(factors) != self.depth:
            raise ValueError(f"factors: expected {self.depth} matrices but got {len(factors)}")
        defects = relative_balancedness(factors) if self.relative else balancedness(factors)
        seen = defects.reshape(-1, self.depth - 1)
        before: Tensor = getattr(self, self._defects)
        setattr(self, self._defects, torch.cat([before.unsqueeze(0), seen]).amax(0))

    def compute(self) -> Tensor:
        """Return the largest defects, (N-1,)."""
        defects: Tensor = getattr(self, self._defects)
        return defects
