r"""Singular vectors carried from step to step: P_W(G) by matrix products alone.

What is carried is U and :math:`A = U^\top W`, whose rows are orthogonal where U holds the left
singular vectors of W: then :math:`A = S V^\top`. When W has moved a little, one sweep of a
one-sided Jacobi method turns all pairs of rows at once. What it leaves is measured, not estimated:
the next sweep sees it in :math:`A A^\top`, so that errors do not add up from step to step.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._kernel import kernel_inside, kernel_outside
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._products import gram, times
from virtualdepth.maths._svd import thin_svd


class Basis(NamedTuple):
    """The singular vectors of a wide W, or nearly.

    Attributes:
        left: U, (..., k, k), orthogonal.
        rows: A = U^T W, (..., k, n), of orthogonal rows.
        lengths: of the rows, (..., k): the singular values, in no order.
    """

    left: Tensor
    rows: Tensor
    lengths: Tensor


def exact_basis(wide: Tensor) -> Basis:
    """Find the basis exactly, by a thin SVD.

    Args:
        wide: W, (..., k, n), k <= n, finite, float32 or float64.

    Returns:
        U and A = S V^T.

    >>> exact_basis(torch.tensor([[0.0, 4.0], [3.0, 0.0]])).rows.abs()
    tensor([[0., 4.],
            [3., 0.]])
    """
    u, s, vh = thin_svd(wide)
    # LAPACK's columns would lie otherwise after a checkpoint, and products round otherwise
    return Basis(u.contiguous(), s.unsqueeze(-1) * vh, s)


def predicted_rows(
    rows: Tensor, step: Tensor, before: Tensor, along: Tensor, now: Tensor
) -> Tensor:
    r"""Predict :math:`U^\top W` where W moved within the plane of W and P, by no product at all.

    The two coefficients of :math:`W' = \alpha W + \beta P` follow from three vectors: so any rate,
    decay or scale is met without being told.

    Args:
        rows: U^T W, (..., k, n).
        step: U^T P, (..., k, n).
        before: W z, (..., k), for one fixed z.
        along: P z.
        now: W' z.

    Returns:
        (..., k, n): wrong where W moved otherwise.

    >>> one = torch.ones(1)
    >>> predicted_rows(torch.eye(1) * 2, torch.eye(1) * 4, 2 * one, 4 * one, 1.6 * one)
    tensor([[1.6000]])
    """
    known = torch.stack([before, along, now], dim=-2).double()
    found = [_coefficients(*inner) for inner in gram(known).reshape(-1, 9).tolist()]
    each = torch.tensor(found, dtype=rows.dtype, device=rows.device).mT
    alpha, beta = each.reshape(2, *rows.shape[:-2], 1, 1).unbind()
    return torch.mul(alpha, rows).addcmul_(beta, step)


def _coefficients(*inner: float) -> tuple[float, float]:
    """Solve for what is before and along, of the inner products of all three vectors."""
    aa, ab, ac, _, bb, bc, *_ = inner
    determinant = aa * bb - ab * ab
    if aa == 0:
        return math.nan, math.nan
    beta = (aa * bc - ab * ac) / determinant if determinant > 1e-14 * aa * bb else 0.0
    return (ac - beta * ab) / aa, beta


def precondition_in_basis(
    basis: Basis, grad: Tensor, depth: float, rtol: float | None = None
) -> tuple[Preconditioned, Tensor]:
    r"""Compute P_W(G) in a basis, by four products.

    .. math:: P = U X, \qquad
        X = [(K - k_0 1^\top) S^{-2} \circ (U^\top G A^\top)]\, A + k_0 \circ U^\top G

    Args:
        basis: of W.
        grad: G, (..., k, n).
        depth: a valid depth.
        rtol: a valid tolerance, see :func:`virtualdepth.precondition`.

    Returns:
        P_W(G), with singular values in falling order, and X = U^T P. Singular values below 1e-19 in
        float32, 1e-154 in float64, count as 0.

    >>> basis = exact_basis(torch.diag(torch.tensor([4.0, 9.0])))
    >>> precondition_in_basis(basis, torch.ones(2, 2), 2.0)[0].direction  # K(a, b) = a + b
    tensor([[ 8.0000, 13.0000],
            [13.0000, 18.0000]])
    """
    left, rows, sigma = basis
    if rtol is None:
        rtol = torch.finfo(sigma.dtype).eps
    # below the second bound the inverse square below would be infinite
    bound = (rtol * sigma.amax(-1, keepdim=True)).clamp_min(torch.finfo(sigma.dtype).tiny ** 0.5)
    sigma = torch.where(sigma > bound, sigma, 0.0)
    inverse = torch.where(sigma > 0, 1 / sigma, 0.0)
    projected = left.mT @ grad
    core = projected @ rows.mT
    slopes = core.diagonal(dim1=-2, dim2=-1) * inverse
    inside = kernel_inside(sigma, depth, scale=inverse.square()).mul_(core)
    step = times(inside, rows, plus=projected.mul_(kernel_outside(sigma, depth).unsqueeze(-1)))
    falling, order = sigma.sort(descending=True)
    return Preconditioned(left @ step, falling, slopes.gather(-1, order)), step
