"""The best product of two thin matrices, for inputs of a given covariance."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._svd import thin_svd


class Truncation(NamedTuple):
    r"""A matrix as a product of two thin ones, :math:`W \approx A B`.

    Attributes:
        left: A, (m, r), with orthonormal columns.
        right: B, (r, n).
        error: root of the mean of :math:`\|(W - A B) x\|^2`, over that of :math:`\|W x\|^2`.
    """

    left: Tensor
    right: Tensor
    error: float


def truncate(
    weight: Tensor,
    *,
    rank: int | None = None,
    error: float = 0.0,
    second_moment: Tensor | None = None,
) -> Truncation:
    r"""Compute the thin factors that change the outputs least.

    With :math:`C = \mathbb{E}[x x^\top]` and :math:`W C^{1/2} = U \Sigma V^\top` the mean of
    :math:`\|(W - A B) x\|^2 = \|(W - A B)\, C^{1/2}\|_F^2` is least at
    :math:`A = U_r,\ B = U_r^\top W` (Eckart and Young). C need not have an inverse.

    Args:
        weight: W, (m, n), finite, float32 or float64.
        rank: r, at least 1; or the least one whose relative error is at most ``error``.
        error: what to allow where ``rank`` is None.
        second_moment: C, (n, n), up to a factor; the identity if None. Its eigenvalues below the
            rounding of the largest count as 0.

    Returns:
        A, B and the relative error.

    >>> weight = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    >>> thin = truncate(weight, rank=1)
    >>> thin.left @ thin.right, thin.error  # the larger singular value stays; 3 / 5 is lost
    (tensor([[0., 0.],
            [0., 4.]], dtype=torch.float64), 0.6)
    >>> seen = truncate(weight, rank=1, second_moment=torch.diag(torch.tensor([100.0, 1.0])))
    >>> seen.left @ seen.right  # inputs are ten times larger along the first entry
    tensor([[3., 0.],
            [0., 0.]], dtype=torch.float64)
    """
    seen = weight if second_moment is None else weight @ _root(second_moment.to(weight))
    u, sigma, _ = thin_svd(seen)
    sigma = sigma / sigma[0] if sigma[0] > 0 else sigma
    # what is lost at rank r = 0, 1, ...: the sum of the squares from r on, the smallest first
    lost = torch.cat([sigma.square().flip(0).cumsum(0).flip(0), sigma.new_zeros(1)])
    errors = (lost / lost[0].clamp_min(torch.finfo(lost.dtype).tiny)).sqrt()
    if rank is None:
        rank = int((errors > error).sum())
    rank = min(max(rank, 1), len(sigma))
    left = u[:, :rank]
    return Truncation(left, left.mT @ weight, errors[rank].item())


def _root(second_moment: Tensor) -> Tensor:
    """Find S with S S^T = C."""
    values, vectors = torch.linalg.eigh(second_moment)
    floor = torch.finfo(values.dtype).eps * len(values) * values[-1]
    root: Tensor = vectors * torch.where(values > floor, values, 0.0).sqrt()
    return root


def largest_thin_rank(rows: int, columns: int) -> int:
    """Find the largest rank at which two thin matrices have fewer numbers than one, m x n.

    Returns:
        The largest r with r (m + n) < m n; 0 if there is none.

    >>> largest_thin_rank(100, 100)
    49
    """
    return math.ceil(rows * columns / (rows + columns)) - 1
