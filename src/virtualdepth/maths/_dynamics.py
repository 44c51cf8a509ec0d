"""What theory predicts for a run: how fast singular values move, and how much a step descends.

Sources: arXiv 1905.13655 (singular values), arXiv 1810.02281 (descent).
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_depth
from virtualdepth.maths._kernel import gain_exponent, layer_count, times_gain
from virtualdepth.maths._range import frobenius_norm


def singular_slopes(grad: Tensor, u: Tensor, vh: Tensor) -> Tensor:
    """Compute <G, u_r v_r^T>, (..., k), of U (..., m, k), V^T (..., k, n): the loss's slopes."""
    return ((u.mT @ grad) * vh).sum(-1)


def singular_value_velocity(
    sigma: Tensor, slopes: Tensor, depth: float, weight_decay: float = 0.0
) -> Tensor:
    r"""Compute the velocity of singular values under the end-to-end flow, from their slopes.

    .. math::
        \frac{d\sigma_r}{dt} = -N \sigma_r^{2-2/N} \langle G, u_r v_r^\top \rangle
        - N \lambda \sigma_r

    :func:`virtualdepth.theory.singular_value_velocity` computes the same from W and G.

    Args:
        sigma: singular values of W, >= 0, any shape.
        slopes: :math:`\langle G, u_r v_r^\top \rangle`, of a shape that broadcasts with ``sigma``.
        depth: number of layers N, real, 1 <= N <= inf; at inf the limit with time in units of 1/N.
        weight_decay: lambda, the decay on every factor.

    Returns:
        Velocities in units of singular value per unit of time (learning rate times step); 0 where
        sigma is 0, for N > 1. Derivatives are finite: for N < 2 a sigma of 0 counts as a constant,
        since the slope there is infinite.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is NaN or below 1.

    Source: arXiv 1905.13655, Theorem 3; the decay: arXiv 1802.06509, Theorem 1.

    >>> singular_value_velocity(torch.tensor([8.0, 0.0]), torch.tensor([-1.0, -1.0]), 3)  # 3 * 16
    tensor([48., 0.])
    """
    depth = check_depth(depth)
    decay = weight_decay * sigma
    velocity: Tensor = -layer_count(depth) * (
        times_gain(slopes, sigma, gain_exponent(depth)) + decay
    )
    return velocity


def guaranteed_descent(smallest: Tensor, grad: Tensor, depth: float, lr: float) -> Tensor:
    r"""Bound from below how much one step of gradient descent on the factors reduces the loss.

    .. math:: \frac{\eta}{2}\, \sigma_{\min}(W)^{2(N-1)/N}\, \|G\|_F^2

    It holds if the loss is :math:`\frac12 \|W - \Phi\|_F^2`, W has a deficiency margin, and the
    factors' imbalance and eta are below the theorem's bounds.

    Args:
        smallest: :math:`\sigma_{\min}(W)`, (...).
        grad: G = dl/dW, (..., m, n).
        depth: number of layers N, real, 1 <= N <= inf.
        lr: eta.

    Returns:
        (...), in the units of the loss; 0 for a rank-deficient W, for N > 1, and at N = inf for a W
        that is not square, since the part of G outside its row or column space moves nothing.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is NaN or below 1.

    Source: arXiv 1810.02281, Lemma 1.

    >>> guaranteed_descent(torch.tensor(4.0), torch.tensor([[3.0, 0.0]]), 2, 0.1)  # .05 * 4 * 9
    tensor(1.8000)
    """
    depth = check_depth(depth)
    if math.isinf(depth) and grad.shape[-2] != grad.shape[-1]:
        return torch.zeros_like(smallest)
    share = times_gain(torch.ones_like(smallest), smallest, gain_exponent(depth), lr / 2)
    return times_gain(share, frobenius_norm(grad), 2.0)
