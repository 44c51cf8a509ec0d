"""P_W(G), the end-to-end rule's preconditioner, exactly, by one thin SVD of W.

Source: arXiv 1802.06509, Theorem 1 (the rule), Claim 1 (its spectrum), Claim 2 (single outputs).
"""

from numbers import Real

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_finite, check_matrix
from virtualdepth.maths._kernel import check_depth
from virtualdepth.maths._preconditioner import Preconditioned, preconditioner


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
        return preconditioned_gradient(weight, grad, depth, rtol).direction.to(grad.dtype)


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


def preconditioned_gradient(
    weight: Tensor, grad: Tensor, depth: float, rtol: float | None = None
) -> Preconditioned:
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

    >>> preconditioned_gradient(torch.eye(2), torch.ones(2, 2), 3.0).direction
    tensor([[3., 3.],
            [3., 3.]])
    """
    dtype = torch.promote_types(torch.promote_types(weight.dtype, grad.dtype), torch.float32)
    return preconditioner(weight.to(dtype), depth, rtol).apply(grad.to(dtype))
