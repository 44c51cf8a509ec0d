"""How diagonal the gradient is in the singular basis of the matrix."""

from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import gradient_alignment
from virtualdepth.metrics._base import PlottedMetric


class GradientAlignment(PlottedMetric):
    r"""Average the diagonal and the off-diagonal size of :math:`U^\top G V`.

    ``update(weight, grad)`` takes W and G, (..., m, n); ``compute()`` returns
    ``{"diagonal": mean |C_rr|, "off_diagonal": mean |C_rs|}``, each averaged over matrices, in the
    units of G (for ``log_dict``). Vectors of zero singular values are arbitrary and left out: a
    matrix of rank 1 gives an off-diagonal of 0, a matrix of zeros gives 0 for both. Not
    differentiable: singular vectors have no derivative where singular values are equal.

    Pure function: :func:`virtualdepth.maths.gradient_alignment` (arXiv 1905.13655, section 3).

    Args:
        rtol: singular values <= ``rtol`` times the largest count as zero; default max(m, n) times
            the machine epsilon.
        kwargs: what every torchmetrics metric takes.

    >>> metric = GradientAlignment()
    >>> weight, grad = torch.diag(torch.tensor([4.0, 9.0])), torch.tensor([[1.0, 0.5], [0.0, -2.0]])
    >>> metric(weight, grad)
    {'diagonal': tensor(1.5000), 'off_diagonal': tensor(0.2500)}
    """

    is_differentiable: bool = False
    higher_is_better: bool | None = None
    plot_lower_bound: float = 0.0
    matrices: Tensor

    def __init__(self, rtol: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rtol = rtol
        self._diagonal, self._off_diagonal = f"diagonal_{rtol}", f"off_diagonal_{rtol}"
        for state in (self._diagonal, self._off_diagonal):
            self.add_state(state, torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("matrices", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, weight: Tensor, grad: Tensor) -> None:
        """Add W and its gradient G, each (..., m, n)."""
        weight, grad = weight.detach(), grad.detach()
        diagonal, off_diagonal = gradient_alignment(weight, grad, rtol=self.rtol)
        self._add_to(self._diagonal, diagonal.sum())
        self._add_to(self._off_diagonal, off_diagonal.sum())
        self._add_to("matrices", diagonal.numel())

    def compute(self) -> dict[str, Tensor]:
        """Return both averages by name."""
        return {
            "diagonal": getattr(self, self._diagonal) / self.matrices,
            "off_diagonal": getattr(self, self._off_diagonal) / self.matrices,
        }
