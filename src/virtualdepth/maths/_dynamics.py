"""What theory predicts for a run: how fast singular values move, and how much a step descends.

Sources: arXiv 1905.13655 (singular values), arXiv 1810.02281 (descent).
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_depth, check_imbalance, check_imbalance_held
from virtualdepth.maths._kernel import gain_exponent, kernel_outside, layer_count, times_gain
from virtualdepth.maths._preconditioner import block_svd
from virtualdepth.maths._profile import gain_rate
from virtualdepth.maths._range import frobenius_norm


def singular_slopes(grad: Tensor, u: Tensor, vh: Tensor) -> Tensor:
    """Compute <G, u_r v_r^T>, (..., k), of U (..., m, k), V^T (..., k, n): the loss's slopes."""
    slopes: Tensor = ((u.mH @ grad) * vh.conj()).real.sum(-1)
    return slopes


def sizes_and_slopes(blocks: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the singular values of blocks, (..., m, n), and the loss's slopes, (..., k)."""
    u, sizes, vh = block_svd(blocks)
    slopes = singular_slopes(grad, u, vh)
    rtol = max(blocks.shape[-2:]) * torch.finfo(sizes.dtype).eps
    zero = sizes <= rtol * sizes[..., :1]
    if not zero.any():
        return sizes, slopes
    # a zero grows along the singular vectors of G between the null spaces, the steepest first
    u, vh = torch.where(zero.unsqueeze(-2), 0.0, u), torch.where(zero.unsqueeze(-1), 0.0, vh)
    rest = grad - u @ (u.mH @ grad)
    _, grown, _ = block_svd(rest - (rest @ vh.mH) @ vh)
    place = (zero.cumsum(-1) - 1).clamp_min(0)
    return sizes, torch.where(zero, -grown.take_along_dim(place, -1), slopes)


def singular_value_velocity(
    sigma: Tensor,
    slopes: Tensor,
    depth: float,
    weight_decay: float = 0.0,
    imbalance: float = 0.0,
) -> Tensor:
    r"""Compute the velocity of singular values under the end-to-end flow, from their slopes.

    .. math::
        \frac{d\sigma_r}{dt} = -N \sigma_r^{2-2/N} \langle G, u_r v_r^\top \rangle
        - N \mu \sigma_r

    With an imbalance :math:`\lambda` the gain :math:`N \sigma_r^{2-2/N}` becomes :math:`F'(t_r) =
    (t_r + \lambda)^{N-2} (N t_r + \lambda)`, where :math:`\sigma_r^2 = F(t_r) = t_r
    (t_r + \lambda)^{N-1}`. The same law holds for the blocks of every structure, with their
    singular values and slopes. :func:`virtualdepth.theory.singular_value_velocity` computes it from
    W and G.

    Args:
        sigma: singular values of W, >= 0, any shape.
        slopes: :math:`\langle G, u_r v_r^\top \rangle`, of a shape that broadcasts with ``sigma``.
        depth: number of layers N, real, 1 <= N <= inf; at inf the limit with time in units of 1/N.
        weight_decay: mu, the decay on every factor. That it shrinks an imbalance is left out.
        imbalance: lambda >= 0; 0 where N is inf.

    Returns:
        Velocities in units of singular value per unit of time (learning rate times step); 0 where
        sigma is 0, for N > 1 and no imbalance. Derivatives are finite: for N < 2 a sigma of 0
        counts as a constant, since the slope there is infinite.

    Raises:
        TypeError: if ``depth`` or ``imbalance`` is not a real number.
        ValueError: if ``depth`` is NaN or below 1, or ``imbalance`` is out of range.

    Source: arXiv 1905.13655, Theorem 3; the decay: arXiv 1802.06509, Theorem 1; the imbalance, at
    two layers: arXiv 2409.14623.

    >>> singular_value_velocity(torch.tensor([8.0, 0.0]), torch.tensor([-1.0, -1.0]), 3)  # 3 * 16
    tensor([48., 0.])
    >>> singular_value_velocity(torch.zeros(1), -torch.ones(1), 3, imbalance=0.5)  # 0.5^2
    tensor([0.2500])
    """
    depth = check_depth(depth)
    imbalance = check_imbalance(imbalance, depth)
    layers, decay = layer_count(depth), weight_decay * sigma
    velocity: Tensor
    if imbalance != 0:
        check_imbalance_held(imbalance, sigma.dtype, depth)
        velocity = -(gain_rate(sigma, depth, imbalance) * slopes + layers * decay)
    else:
        velocity = -layers * (times_gain(slopes, sigma, gain_exponent(depth)) + decay)
    return velocity


def guaranteed_descent(
    smallest: Tensor, grad: Tensor, depth: float, lr: float, imbalance: float = 0.0
) -> Tensor:
    r"""Bound from below how much one step of gradient descent on the factors reduces the loss.

    .. math:: \frac{\eta}{2}\, \sigma_{\min}(W)^{2(N-1)/N}\, \|G\|_F^2

    It holds if the loss is :math:`\frac12 \|W - \Phi\|_F^2`, W has a deficiency margin, and the
    factors' imbalance and eta are below the theorem's bounds. With layers of one ``imbalance``
    :math:`\lambda` the power of :math:`\sigma_{\min}` becomes :math:`(t_{\min} + \lambda)^{N-1}`.
    Both are at most the least eigenvalue of :math:`P_W`, of which the bound holds for the
    end-to-end rule at every :math:`\eta \le 1 / \|P_W\|`.

    Args:
        smallest: :math:`\sigma_{\min}(W)`, (...).
        grad: G = dl/dW, (..., m, n).
        depth: number of layers N, real, 1 <= N <= inf.
        lr: eta.
        imbalance: lambda >= 0; 0 where N is inf.

    Returns:
        (...), in the units of the loss; 0 for a rank-deficient W, for N > 1, and at N = inf for a W
        that is not square, since the part of G outside its row or column space moves nothing.

    Raises:
        TypeError: if ``depth`` or ``imbalance`` is not a real number.
        ValueError: if ``depth`` is NaN or below 1, or ``imbalance`` is out of range.

    Source: arXiv 1810.02281, Lemma 1.

    >>> guaranteed_descent(torch.tensor(4.0), torch.tensor([[3.0, 0.0]]), 2, 0.1)  # .05 * 4 * 9
    tensor(1.8000)
    """
    depth = check_depth(depth)
    if math.isinf(depth) and grad.shape[-2] != grad.shape[-1]:
        return torch.zeros_like(smallest)
    imbalance = check_imbalance(imbalance, depth)
    if imbalance != 0:
        check_imbalance_held(imbalance, smallest.dtype, depth)
        share = lr / 2 * kernel_outside(smallest, depth, imbalance)
    else:
        share = times_gain(torch.ones_like(smallest), smallest, gain_exponent(depth), lr / 2)
    return times_gain(share, frobenius_norm(grad), 2.0)
