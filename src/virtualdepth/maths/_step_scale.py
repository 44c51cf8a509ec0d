"""Factors on P_W(G) that make a learning rate carry over between depths and scales of W.

P_W grows like sigma_1^{2-2/N}, so that a raw learning rate is one of the theorem, not of practice.
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._kernel import gain_exponent
from virtualdepth.maths._preconditioner import Preconditioned

# below depth 2 the relative speed K_rr |slope| / sigma_r of a singular value grows without bound
# as sigma_r -> 0: smaller ones than this, relative to the largest, do not hold back the others
_NEGLIGIBLE = 1e-3


def relative_speed(sigma: Tensor, slopes: Tensor, depth: float) -> Tensor:
    r"""Find the largest relative speed of a singular value under the flow.

    :math:`\max_r K(\sigma_r, \sigma_r)\,|u_r^\top G v_r| / \sigma_r`, where
    :math:`K(\sigma, \sigma) = N \sigma^{2-2/N}` (:math:`\sigma^2` at infinite depth); over
    :math:`\sigma_r > 10^{-3} \sigma_1` for N < 2, where it has no bound at small singular values.

    Args:
        sigma: singular values of W, (..., k), falling.
        slopes: the loss's derivatives along them, (..., k).
        depth: number of layers N > 1.

    Returns:
        (...), in units of one over time.

    Source: arXiv 1905.13655, Theorem 3: d sigma_r / dt = -N sigma_r^{2-2/N} <G, u_r v_r^T>.

    >>> relative_speed(torch.tensor([4.0, 1.0]), torch.tensor([-1.0, 1.0]), 2.0)  # 2 sigma / sigma
    tensor(2.)
    """
    slopes = slopes.abs()
    layers = 1.0 if math.isinf(depth) else depth
    exponent = gain_exponent(depth) - 1
    if exponent < 0:
        counted = sigma > _NEGLIGIBLE * sigma[..., :1]
        sigma, slopes = torch.where(counted, sigma, 1.0), torch.where(counted, slopes, 0.0)
    speed: Tensor = (layers * sigma.pow(exponent) * slopes).amax(-1)
    return speed


def unit_scale(gradient: Preconditioned, depth: float, lr: float | Tensor, cap: float) -> Tensor:
    r"""Scale a step so that ``lr`` means what it means for plain gradient descent.

    .. math::
        \min\left(\frac{1}{N \sigma_1^{2-2/N}},\
        \frac{\mathrm{cap}}{\eta \max_r K_{rr} |u_r^\top G v_r| / \sigma_r}\right)

    The first divides by the largest eigenvalue of the preconditioner, so that a learning rate below
    2 / smoothness stays stable at every depth and scale of W; the second bounds the relative change
    of every singular value by ``cap`` a step, without which large steps lose the bias to low rank.
    Infinite depth divides by :math:`\sigma_1^2`.

    Args:
        gradient: of :func:`virtualdepth.maths.preconditioned_gradient`.
        depth: number of layers N > 1.
        lr: the learning rate eta that the result will be multiplied by.
        cap: the largest relative change of a singular value in a step, > 0.

    Returns:
        (...), one scale for each matrix; 0 for a matrix of zeros.

    >>> from virtualdepth.maths import preconditioned_gradient
    >>> gradient = preconditioned_gradient(torch.diag(torch.tensor([4.0, 1.0])), torch.eye(2), 2.0)
    >>> unit_scale(gradient, 2.0, lr=0.1, cap=0.05)  # 1 / (2 * 4)
    tensor(0.1250)
    >>> unit_scale(gradient, 2.0, lr=1.0, cap=0.05)  # 0.05 / (1 * 2)
    tensor(0.0250)
    """
    layers = 1.0 if math.isinf(depth) else depth
    largest = gradient.singular_values[..., 0]
    stable = 1 / (layers * largest.pow(gain_exponent(depth)))
    capped = cap / (lr * relative_speed(gradient.singular_values, gradient.slopes, depth))
    return torch.where(largest > 0, torch.minimum(stable, capped), 0.0)


def squared_preconditioned_norm(grad: Tensor, gradient: Preconditioned) -> Tensor:
    r"""Evaluate :math:`\langle G, P_W(G) \rangle`, the squared gradient norm of the N factors.

    Under balance it equals :math:`\sum_j \|dl/dW_j\|_F^2` of the explicit network.

    Args:
        grad: G, (..., m, n).
        gradient: of the same G.

    Returns:
        A scalar, summed over the batch.

    Source: arXiv 1802.06509, Theorem 1.

    >>> from virtualdepth.maths import preconditioned_gradient
    >>> grad = torch.ones(1, 1)
    >>> squared_preconditioned_norm(grad, preconditioned_gradient(4 * grad, grad, 2.0))  # 2 * 4
    tensor(8.)
    """
    return (grad * gradient.direction).sum()
