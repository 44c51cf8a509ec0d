r"""P_W(G) at depth 2 by the polar factor of W: matrix products alone, and nothing carried.

:math:`[W W^\top]^{1/2} = W O^\top` and :math:`[W^\top W]^{1/2} = O^\top W`, where
:math:`O = U V^\top` is the polar factor.
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._products import gram


def polar_factor(wide: Tensor, smallest: float) -> Tensor:
    r"""Iterate to :math:`O = U V^\top` by scaled Newton-Schulz steps.

    Of all cubic polynomials each step takes the one that brings singular values in [l, 1] closest
    to 1: :math:`p(x) = \tfrac12 \alpha x (3 - \alpha^2 x^2)`, :math:`\alpha^2 = 3 / (1 + l + l^2)`,
    which maps them to [p(l), 1]. A fixed number of steps, and nothing is read.

    Args:
        wide: W, (..., k, n), k <= n.
        smallest: l, relative to a bound on the largest singular value: smaller ones may stay
            below 1.

    Returns:
        (..., k, n); 0 where W is.

    Source: Chen and Chow, "A stable scaling of Newton-Schulz for improving the sign function
    computation of a Hermitian matrix" (2014).

    >>> polar_factor(torch.diag(torch.tensor([4.0, 9.0])), 1e-3).round(decimals=5)
    tensor([[1., 0.],
            [0., 1.]])
    """
    tiny = torch.finfo(wide.dtype).tiny
    peak = wide.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(tiny)
    factor: Tensor = wide / peak
    # ||W W^T||_F^{1/2}: at least sigma_1, and seldom three times it
    bound = torch.linalg.matrix_norm(gram(factor), keepdim=True).sqrt()
    factor = factor / bound.clamp_min(tiny)
    low = smallest
    while low < 1 - 1e-7:
        alpha = math.sqrt(3 / (1 + low + low**2))
        step = gram(factor).mul_(-0.5 * alpha**3)
        step.diagonal(dim1=-2, dim2=-1).add_(1.5 * alpha)
        factor = step @ factor
        low = 0.5 * alpha * low * (3 - alpha**2 * low**2)
    return factor


def polar_gradient(
    weight: Tensor, grad: Tensor, depth: float, rtol: float | None = None
) -> Preconditioned:
    r"""Compute :math:`P_W(G) = W O^\top G + G\, O^\top W` at depth 2, without a decomposition.

    Singular values below :math:`\sqrt\epsilon\,\sigma_1` count for less than they are: an error of
    at most as much, relative to the largest eigenvalue of P_W.

    Args:
        weight: W, (..., m, n), finite.
        grad: G, of the same shape.
        depth: 2.
        rtol: None.

    Returns:
        P_W(G), without singular values and slopes: it does not know them.

    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> polar_gradient(weight, torch.ones(2, 2), 2.0).direction.round(decimals=4)
    tensor([[ 8., 13.],
            [13., 18.]])
    """
    dtype = torch.promote_types(torch.promote_types(weight.dtype, grad.dtype), torch.float32)
    tall = weight.shape[-2] > weight.shape[-1]
    wide, wide_grad = ((x.mT if tall else x).to(dtype) for x in (weight, grad))
    factor = polar_factor(wide, math.sqrt(torch.finfo(dtype).eps))
    direction = (wide @ factor.mT) @ wide_grad + (wide_grad @ factor.mT) @ wide
    unknown = direction[..., :0, 0]
    return Preconditioned(direction.mT if tall else direction, unknown, unknown)
