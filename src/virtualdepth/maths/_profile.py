r"""The profile F: how the layers of a network share one singular value.

Layers with squared singular values t + d_i multiply to :math:`\sigma^2 = F(t) = \prod_i (t + d_i)`.
Gradient flow conserves the d_i. Here one layer is smaller than the N - 1 others by ``imbalance``
:math:`\lambda \ge 0`, so that :math:`F(t) = t\,(t + \lambda)^{N-1}` for every real N >= 1. At
:math:`\lambda = 0` the layers are balanced. An imbalance is a number, or a tensor that broadcasts
with singular values.

Source: arXiv 2409.14623 (two layers).
"""

import math

import torch
from torch import Tensor

Imbalance = float | Tensor


def is_balanced(imbalance: Imbalance) -> bool:
    """Tell whether the imbalance is known to be 0."""
    return not isinstance(imbalance, Tensor) and imbalance == 0


def small_square(sigma: Tensor, depth: float, imbalance: Imbalance = 0.0) -> Tensor:
    r"""Solve :math:`t\,(t + \lambda)^{N-1} = \sigma^2` for t >= 0, the smallest layer squared.

    Args:
        sigma: singular values >= 0, of any shape.
        depth: number of layers N, real and finite, N >= 1.
        imbalance: lambda >= 0.

    Returns:
        t, of the shape of ``sigma``; 0 where its dtype cannot hold it. Derivatives are finite with
        an imbalance.
    """
    if is_balanced(imbalance):
        return sigma.pow(2 / depth)
    if depth == 1:
        return sigma.square()
    lam = _as_tensor(imbalance, sigma)
    if depth == 2:
        return 2 * sigma * (sigma / (lam + torch.hypot(lam, 2 * sigma)))
    # in units of the balanced square h, where t / h solves y (y + lam / h)^(N-1) = 1
    positive = torch.where(sigma > 0, sigma, 1.0)
    balanced = positive.pow(2 / depth)
    # a quotient's derivative has h^2, which may underflow; that of a logarithm has not
    log = positive.log() * (-2 / depth)
    ratio = (lam / balanced).detach() * (log - log.detach()).exp()
    start = ratio.clamp_min(1.0).pow(1 - depth)  # never below the root
    known = (sigma > 0) & (start > 0)
    share, ratio = (torch.where(known, each, 1.0) for each in (start, ratio))
    for _ in range(_steps(depth)):
        share = _closer(share, ratio, depth)
    return torch.where(known, balanced * share, 0.0)


def _steps(depth: float) -> int:
    """Count the steps that bring the share to rounding from every start."""
    # after two steps 2e-14 are left at depth 3, 7e-13 at depth 4
    return 2 if depth <= 3 else 3 + int(math.log2(depth / 2) / 5)


def _closer(share: Tensor, ratio: Tensor, depth: float) -> Tensor:
    """Take a step of fourth order, of Householder's method in ln y, towards the root."""
    others, shifted = depth - 1, share + ratio
    part = share / shifted
    residual = share.log() + others * shifted.log()
    # the first three derivatives by ln y
    first = 1 + others * part
    second = others * part * (ratio / shifted)
    third = second * (1 - 2 * part)
    above = residual * (first.square() - residual * second / 2)
    below = first * (first.square() - residual * second) + residual.square() * third / 6
    return share * torch.exp(-above / below)


def layer_roots(sigma: Tensor, depth: float, imbalance: Imbalance = 0.0) -> tuple[Tensor, Tensor]:
    """Compute the singular values of the smallest layer and of the others; sigma^{1/N} at 0."""
    if is_balanced(imbalance):
        root = sigma.pow(1 / depth)
        return root, root
    small = small_square(sigma, depth, imbalance)
    return small.sqrt(), (small + imbalance).sqrt()


def gain_rate(sigma: Tensor, depth: float, imbalance: Imbalance = 0.0) -> Tensor:
    r"""Evaluate :math:`K(\sigma, \sigma) = F'(t) = (t + \lambda)^{N-2} (N t + \lambda)`.

    A singular value moves by :math:`d\sigma_r/dt = -F'(t_r) \langle G, u_r v_r^\top \rangle`.

    Returns:
        The gain, of the shape of ``sigma``; at infinite depth the limit of F'/N, sigma^2.
    """
    if is_balanced(imbalance):
        layers = 1.0 if math.isinf(depth) else depth
        return layers * _power(sigma, 2 - 2 / depth)
    if depth == 1:
        return torch.ones_like(sigma)
    lam = _as_tensor(imbalance, sigma)
    if depth == 2:
        return torch.hypot(lam, 2 * sigma)
    if depth == 3:  # the cubic, by its hyperbolic root; all terms are positive
        scaled = 1.5 * 3**0.5 * sigma
        # no quotient below is 0 / 0
        shift = lam.pow(1.5).clamp_min(torch.finfo(lam.dtype).tiny ** 0.75)
        power = _power(scaled + torch.hypot(shift, scaled), 4 / 3)
        # where it would be infinite so is the power, and the quotient NaN
        square = lam.square().clamp_max(torch.finfo(lam.dtype).max)
        return (power + square + square * (square / power)) / 3
    small = small_square(sigma, depth, imbalance)
    large = small + lam
    return large.pow(depth - 1) * (1 + (depth - 1) * (small / large))


def _power(values: Tensor, exponent: float) -> Tensor:
    """Raise values >= 0 to an exponent from 0 to 2, faster than torch does and as exactly."""
    rest = exponent - 1
    if rest <= 0 or values.requires_grad:  # the derivative of a logarithm at 0 is infinite
        return values.pow(exponent)
    if rest in {0.5, 1.0}:  # of these torch takes no logarithms either
        return values * values.pow(rest)
    return values * (values.log2() * rest).exp2()


def least_size(depth: float, imbalance: Imbalance) -> Imbalance:
    r"""Compute :math:`\lambda^{N/2}`, from which steps count how far a singular value moves."""
    if is_balanced(imbalance):
        return 0.0
    try:
        return imbalance ** (depth / 2)
    except OverflowError:  # of a number, not of a tensor
        return math.inf


def _as_tensor(imbalance: Imbalance, like: Tensor) -> Tensor:
    """Make the imbalance a tensor; above 0, so that no quotient is 0 / 0."""
    if not isinstance(imbalance, Tensor):
        imbalance = like.new_full((), imbalance)
    return imbalance.clamp_min(torch.finfo(like.dtype).tiny)
