"""The losses of the equivalence check, means over the samples of a batch."""

import math

from torch import Tensor


def mse(residual: Tensor) -> Tensor:
    r"""Average half the squared norm: the mean over samples of :math:`\|r\|_2^2 / 2`.

    Args:
        residual: r = W x - y, (..., m), one row a sample.

    Returns:
        A scalar, in squared units of the targets.

    >>> import torch
    >>> mse(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))  # (12.5 + 0.5) / 2
    tensor(6.5000)
    """
    return residual.square().sum(-1).mean() / 2


def lp(residual: Tensor, p: float) -> Tensor:
    r"""Average the p-th powers: the mean over samples of :math:`\frac1p \sum_i |r_i|^p`.

    Args:
        residual: r = W x - y, (..., m), one row a sample.
        p: a finite number >= 1; 2 gives :func:`mse`.

    Returns:
        A scalar, in the units of the targets to the power p.

    Raises:
        ValueError: if ``p`` is out of range.

    Source: arXiv 1802.06509, section 8 (l_p regression, p = 4).

    >>> import torch
    >>> lp(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 4)  # (1 + 16) / 4 / 2
    tensor(2.1250)
    """
    return residual.abs().pow(check_power(p)).sum(-1).mean() / p


def check_power(p: float) -> float:
    """Return a valid exponent of the l_p loss.

    Args:
        p: a finite number >= 1.

    Returns:
        ``p`` as a float.

    Raises:
        ValueError: if it is out of range.

    >>> check_power(4)
    4.0
    """
    if not 1 <= p < math.inf:
        raise ValueError(f"p: expected a finite number >= 1 but got {p!r}")
    return float(p)
