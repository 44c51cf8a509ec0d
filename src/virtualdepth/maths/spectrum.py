"""Measures of the size of a spectrum: ranks and Schatten norms, on any leading batch."""

import math

import torch
from torch import Tensor


def nuclear_norm(weight: Tensor) -> Tensor:
    r"""Sum the singular values: :math:`\|W\|_* = \sum_r \sigma_r`.

    Args:
        weight: W, (..., m, n).

    Returns:
        (...), in the units of W; 0 for a matrix of zeros.

    >>> nuclear_norm(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(7.)
    """
    sigma: Tensor = torch.linalg.svdvals(weight)
    return sigma.sum(-1)


def schatten_norm(weight: Tensor, p: float) -> Tensor:
    r"""Take the p-norm of the singular values: :math:`(\sum_r \sigma_r^p)^{1/p}`.

    p = 1 is the nuclear, 2 the Frobenius, inf the spectral norm; 0 < p < 1 gives a quasi-norm: the
    one with p = 2/N is what an L2 penalty on N balanced factors amounts to.

    Args:
        weight: W, (..., m, n).
        p: 0 < p <= inf.

    Returns:
        (...), in the units of W; 0 for a matrix of zeros.

    Raises:
        ValueError: if ``p`` is not positive.

    >>> schatten_norm(torch.diag(torch.tensor([3.0, 4.0])), 2)
    tensor(5.)
    """
    if not p > 0:
        raise ValueError(f"p: expected a number > 0 or inf but got {p!r}")
    sigma: Tensor = torch.linalg.svdvals(weight)
    largest = sigma[..., :1]
    if math.isinf(p):
        return largest.squeeze(-1)
    # relative to the largest value, so that no power leaves the range of the dtype
    relative = torch.where(largest > 0, sigma / largest, 0.0)
    return largest.squeeze(-1) * relative.pow(p).sum(-1).pow(1 / p)


def stable_rank(weight: Tensor) -> Tensor:
    r"""Divide the squared Frobenius by the squared spectral norm: :math:`\|W\|_F^2/\sigma_1^2`.

    Args:
        weight: W, (..., m, n).

    Returns:
        (...) between 1 and min(m, n); 0 for a matrix of zeros.

    >>> stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    tensor(1.5000)
    """
    sigma = torch.linalg.svdvals(weight)
    largest = sigma[..., :1]
    return torch.where(largest > 0, sigma / largest, 0.0).square().sum(-1)


def effective_rank(weight: Tensor) -> Tensor:
    r"""Exponentiate the entropy of the normalised singular values.

    :math:`\exp(-\sum_r p_r \ln p_r)` with :math:`p_r = \sigma_r / \sum_s \sigma_s`: k equal
    singular values give k.

    Args:
        weight: W, (..., m, n).

    Returns:
        (...) between 1 and min(m, n); 0 for a matrix of zeros.

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", 2007.

    >>> effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    tensor(2.)
    """
    sigma = torch.linalg.svdvals(weight)
    total = sigma.sum(-1, keepdim=True)
    share = torch.where(total > 0, sigma / total, 0.0)
    rank = torch.special.entr(share).sum(-1).exp()
    return torch.where(total.squeeze(-1) > 0, rank, 0.0)
