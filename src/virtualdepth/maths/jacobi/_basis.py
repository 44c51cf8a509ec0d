r"""Singular vectors carried from step to step: P_W(G) by matrix products alone.

The basis holds U and :math:`A = U^\top W`. Where U are the left singular vectors of W, the rows of
A are orthogonal: :math:`A = S V^\top`. When W has moved a little, a sweep of the one-sided Jacobi
method rotates all pairs of rows at once. What a sweep leaves is visible to the next one in
:math:`A A^\top`, so errors do not add up from step to step.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._kernel import kernel_inside, kernel_outside
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._products import add_product_, gram
from virtualdepth.maths._profile import Imbalance
from virtualdepth.maths._svd import thin_svd


class Basis(NamedTuple):
    """The singular vectors of a wide W, (..., k, n), k <= n, or approximations of them.

    Attributes:
        left: U, (..., k, k), orthogonal.
        rows: A = U^T W, (..., k, n), with orthogonal rows.
        norms: of the rows, (..., k): the singular values, in no order.
    """

    left: Tensor
    rows: Tensor
    norms: Tensor


def exact_basis(wide: Tensor) -> Basis:
    """Compute U and A = S V^T of W, (..., k, n), by a thin SVD."""
    u, s, vh = thin_svd(wide)
    # in one layout, as after a checkpoint: products of another would round differently
    return Basis(u.contiguous(), (s.unsqueeze(-1) * vh).mT.contiguous().mT, s)


def predicted_rows(
    rows: Tensor, step: Tensor, before: Tensor, along: Tensor, now: Tensor
) -> Tensor:
    r"""Predict :math:`U^\top W'` of :math:`W' = \alpha W + \beta P` without a matrix product.

    ``rows`` and ``step`` are U^T W and U^T P, (..., k, n). Alpha and beta follow from the images of
    one fixed vector z: ``before`` = W z, ``along`` = P z, ``now`` = W' z, (..., k). So no learning
    rate, decay or scale has to be known.

    Returns:
        (..., k, n): wrong where W moved otherwise.
    """
    known = torch.stack([before, along, now], dim=-2).double()
    found = [_coefficients(*products) for products in gram(known).reshape(-1, 9).tolist()]
    each = torch.tensor(found, dtype=rows.dtype, device=rows.device).mT
    alpha, beta = each.reshape(2, *rows.shape[:-2], 1, 1).unbind()
    return torch.mul(alpha, rows).addcmul_(beta, step)


def _coefficients(*products: float) -> tuple[float, float]:
    """Fit c = alpha a + beta b, from the nine inner products of a, b and c."""
    aa, ab, ac, _, bb, bc, *_ = products
    determinant = aa * bb - ab * ab
    if aa == 0:
        return math.nan, math.nan
    beta = (aa * bc - ab * ac) / determinant if determinant > 1e-14 * aa * bb else 0.0
    return (ac - beta * ab) / aa, beta


def precondition_in_basis(
    basis: Basis,
    grad: Tensor,
    depth: float,
    rtol: float | None = None,
    imbalance: Imbalance = 0.0,
) -> tuple[Preconditioned, Tensor]:
    r"""Compute P_W(G), (..., k, n), in a basis of W, by four products.

    .. math:: P = U X, \qquad
        X = [(K - k_0 1^\top) S^{-2} \circ (U^\top G A^\top)]\, A + k_0 \circ U^\top G

    Returns:
        P_W(G), with singular values in falling order, and X = U^T P. Singular values below 1e-19 in
        float32, 1e-154 in float64, count as 0.
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
    if isinstance(imbalance, Tensor):  # one for each matrix, (...)
        imbalance = imbalance.unsqueeze(-1)
    inside = kernel_inside(sigma, depth, inverse.square(), imbalance).mul_(core)
    outside = projected.mul_(kernel_outside(sigma, depth, imbalance).unsqueeze(-1))
    step = add_product_(outside, inside, rows)
    falling, order = sigma.sort(descending=True)
    return Preconditioned(left @ step, falling, slopes.gather(-1, order)), step
