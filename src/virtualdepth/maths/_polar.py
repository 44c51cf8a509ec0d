r"""P_W(G) at depth 2 by the polar factor of W: matrix products alone, without any state.

:math:`[W W^\top]^{1/2} = W O^\top` and :math:`[W^\top W]^{1/2} = O^\top W`, where
:math:`O = U V^\top` is the polar factor.

Source: Chen and Chow, "A stable scaling of Newton-Schulz for improving the sign function
computation of a Hermitian matrix" (2014).
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._products import gram
from virtualdepth.maths._range import Peaks, in_units


def polar_factor(wide: Tensor, smallest: float) -> Tensor:
    r"""Iterate W, (..., k, n), k <= n, to :math:`O = U V^\top` by scaled Newton-Schulz steps.

    Of all cubic polynomials each step takes the one that brings singular values in [l, 1] closest
    to 1: :math:`p(x) = \tfrac12 \alpha x (3 - \alpha^2 x^2)`, :math:`\alpha^2 = 3 / (1 + l + l^2)`,
    which maps them to [p(l), 1]. The first l is ``smallest``, relative to a bound on sigma_1. The
    number of steps is fixed, so that no number is read.

    Returns:
        (..., k, n); 0 where W is. Singular values below l may stay below 1.
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
    weight: Tensor,
    grad: Tensor,
    depth: float,
    rtol: float | None = None,
    *,
    peaks: Peaks = None,
) -> Preconditioned:
    r"""Compute :math:`P_W(G) = W O^\top G + G\, O^\top W` at depth 2, without a decomposition.

    Singular values below :math:`\sqrt\epsilon\,\sigma_1` count for less than they are. The error is
    at most as large, relative to the largest eigenvalue of P_W. ``depth`` and ``rtol`` are there
    for the protocol of solvers: they are 2 and None.

    Returns:
        P_W(G), (..., m, n), with empty singular values and slopes, which are not known here.
    """
    del rtol
    weight, grad, units = in_units(weight, grad, depth, peaks=peaks)
    tall = weight.shape[-2] > weight.shape[-1]
    wide, wide_grad = (x.mT if tall else x for x in (weight, grad))
    factor = polar_factor(wide, math.sqrt(torch.finfo(wide.dtype).eps))
    direction = (wide @ factor.mT) @ wide_grad + (wide_grad @ factor.mT) @ wide
    unknown = direction[..., :0, 0]
    return Preconditioned(direction.mT if tall else direction, unknown, unknown, units)
