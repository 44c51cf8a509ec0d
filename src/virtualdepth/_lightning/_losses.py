"""The losses of the equivalence check, means over the samples of a batch."""

import math

from torch import Tensor


def mse(residual: Tensor) -> Tensor:
    r"""Return the mean over samples of :math:`\|r\|_2^2 / 2`, r = W x - y, (..., m).

    >>> import torch
    >>> mse(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))  # (12.5 + 0.5) / 2
    tensor(6.5000)
    """
    return residual.square().sum(-1).mean() / 2


def lp(residual: Tensor, p: float) -> Tensor:
    r"""Return the mean over samples of :math:`\frac1p \sum_i |r_i|^p`, r = W x - y, (..., m).

    Source: arXiv 1802.06509, section 8 (l_p regression, p = 4).

    >>> import torch
    >>> lp(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 4)  # (1 + 16) / 4 / 2
    tensor(2.1250)
    """
    return residual.abs().pow(check_power(p)).sum(-1).mean() / p


def check_power(p: float) -> float:
    """Return p, 1 <= p < inf, as a float."""
    if not 1 <= p < math.inf:
        raise ValueError(f"p: expected a finite number >= 1 but got {p!r}")
    return float(p)
