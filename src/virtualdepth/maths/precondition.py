"""P_W(G), the end-to-end rule's preconditioner, exactly, by one thin SVD of W.

Source: arXiv 1802.06509, Theorem 1 (the rule), Claim 1 (its spectrum), Claim 2 (single outputs).
"""

import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths.checks import check_finite, check_matrix
from virtualdepth.maths.decomposition import thin_svd
from virtualdepth.maths.kernel import check_depth, depth_kernel, gain_exponent


def precondition(
    weight: Tensor, grad: Tensor, depth: float, *, rtol: float | None = None
) -> Tensor:
    r"""Apply the preconditioner of an N-layer linear network to the gradient of one matrix.

    .. math:: P_W(G) = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}

    for every real N >= 1; at infinite depth the limit of :math:`P_W(G)/N`. N = 1 returns G. It is
    linear in G, positive semidefinite, and symmetric under transposition. With the thin SVD
    :math:`W = U S V^\top`, m <= n, and :math:`k_0 = \sigma^{2-2/N}` it equals

    .. math:: U\,[(K - k_0 1^\top) \circ (U^\top G V)\, V^\top + k_0 \circ (U^\top G)],

    which needs no basis of the null space. A matrix of one row or column needs no decomposition:
    :math:`\|w\|^{2-2/N} (g + (N-1)\,\hat w \hat w^\top g)`.

    Args:
        weight: W, (..., m, n), finite.
        grad: G, of the same shape.
        depth: number of layers N, real, 1 <= N <= inf.
        rtol: singular values <= ``rtol`` times the largest count as exactly 0. Default: the machine
            epsilon of the dtype computed in. P_W is only Hoelder continuous of order 2/N at a zero
            singular value, so numerical zeros above ``rtol`` make an error of about eps^{2/N};
            a larger ``rtol`` freezes modes that the flow would grow.

    Returns:
        P_W(G) in the shape and dtype of ``grad``; the inputs are not written to. Half precision is
        computed in float32. Differentiable in ``grad``, and in ``weight`` where its singular values
        are distinct and positive (elsewhere the derivative of the SVD is infinite).

    Raises:
        TypeError: if an input is complex, integer or sparse, or ``depth`` or ``rtol`` is no real
            number.
        ValueError: if shapes differ or have fewer than two dimensions, if ``depth`` or ``rtol`` is
            out of range, or if ``weight`` is not finite where the depth is more than 1.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1802.06509, Theorem 1 and Claim 2.

    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> precondition(weight, torch.ones(2, 2), 2)  # K(a, b) = a + b
    tensor([[ 8.0000, 13.0000],
            [13.0000, 18.0000]])
    >>> precondition(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), 2)
    tensor([[6.8000, 2.4000]])
    """
    depth = check_depth(depth)
    rtol = check_rtol(rtol)
    check_matrix(weight)
    check_matrix(grad, "grad")
    if weight.shape != grad.shape:
        raise ValueError(
            f"grad: expected the shape of weight, {tuple(weight.shape)}, but got "
            f"{tuple(grad.shape)}"
        )
    if depth == 1 or weight.numel() == 0:
        return grad.clone()
    check_finite(weight)
    # under autocast the products below would silently be taken in half precision
    with torch.autocast(weight.device.type, enabled=False):
        return end_to_end_gradient(weight, grad, depth, rtol).direction.to(grad.dtype)


def check_rtol(rtol: float | None) -> float | None:
    """Return a valid relative rank tolerance, or None for the default.

    Args:
        rtol: None, or a real number in [0, 1).

    Returns:
        ``rtol`` unchanged.

    Raises:
        TypeError: if it is not a real number.
        ValueError: if it is out of range.

    >>> check_rtol(1e-13)
    1e-13
    """
    if rtol is None:
        return None
    if isinstance(rtol, bool) or not isinstance(rtol, Real):
        raise TypeError(f"rtol: expected None or a number in [0, 1) but got {rtol!r}")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol: expected None or a number in [0, 1) but got {rtol!r}")
    return rtol


class EndToEndGradient(NamedTuple):
    """P_W(G), and what its computation learnt of W and G on the way.

    Attributes:
        direction: P_W(G), (..., m, n).
        singular_values: sigma of W, (..., min(m, n)), falling; those within rtol are 0.
        slopes: the loss's derivatives along them, <G, u_r v_r^T>, (..., min(m, n)).
    """

    direction: Tensor
    singular_values: Tensor
    slopes: Tensor

    @property
    def mT(self) -> "EndToEndGradient":
        """The same of W^T and G^T: the rule is symmetric under transposition."""
        return self._replace(direction=self.direction.mT)


def end_to_end_gradient(
    weight: Tensor, grad: Tensor, depth: float, rtol: float | None = None
) -> EndToEndGradient:
    """Compute P_W(G) without checking the inputs, in the dtype that the computation runs in.

    What :func:`precondition` and the optimizers share: the optimizers check before, and multiply by
    the learning rate before they round to half precision.

    Args:
        weight: W, (..., m, n), finite.
        grad: G, of the same shape.
        depth: a valid depth.
        rtol: a valid tolerance, see :func:`precondition`.

    Returns:
        P_W(G) with the singular values of W and the slopes along them, in float64 if an input is,
        else float32.

    >>> end_to_end_gradient(torch.eye(2), torch.ones(2, 2), 3.0).direction
    tensor([[3., 3.],
            [3., 3.]])
    """
    dtype = torch.promote_types(torch.promote_types(weight.dtype, grad.dtype), torch.float32)
    weight, grad = weight.to(dtype), grad.to(dtype)
    if 1 in weight.shape[-2:]:
        return _of_single_row_or_column(weight, grad, depth)
    if weight.shape[-2] > weight.shape[-1]:
        return _of_wide_matrix(weight.mT, grad.mT, depth, rtol).mT
    return _of_wide_matrix(weight, grad, depth, rtol)


def _of_single_row_or_column(weight: Tensor, grad: Tensor, depth: float) -> EndToEndGradient:
    # dividing by the largest entry first keeps the squares of the norm in range
    peak = weight.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = weight / torch.where(peak > 0, peak, 1.0)
    norm = torch.linalg.vector_norm(scaled, dim=(-2, -1), keepdim=True)
    direction = scaled / torch.where(norm > 0, norm, 1.0)
    slope = (direction * grad).sum(dim=(-2, -1), keepdim=True)
    along = direction * slope
    sigma = peak * norm
    step = along if math.isinf(depth) else grad + (depth - 1) * along
    return EndToEndGradient(
        sigma.pow(gain_exponent(depth)) * step, sigma.squeeze(-1), slope.squeeze(-1)
    )


def _of_wide_matrix(
    weight: Tensor, grad: Tensor, depth: float, rtol: float | None
) -> EndToEndGradient:
    u, sigma, vh = thin_svd(weight)
    if rtol is None:
        rtol = torch.finfo(sigma.dtype).eps
    sigma = torch.where(sigma > rtol * sigma[..., :1], sigma, 0.0)
    rows, columns = sigma.unsqueeze(-1), sigma.unsqueeze(-2)
    # K(sigma, 0): what acts on the null space of W, where the thin SVD has no basis
    outside = rows.pow(gain_exponent(depth)) if math.isfinite(depth) else torch.zeros_like(rows)
    inside = depth_kernel(rows, columns, depth) - outside
    projected = u.mT @ grad
    core = projected @ vh.mT
    direction = u @ ((inside * core) @ vh + outside * projected)
    # a copy: a view would keep all of core for as long as the slopes are kept
    slopes = core.diagonal(dim1=-2, dim2=-1).clone()
    return EndToEndGradient(direction, sigma, slopes)
