"""The eigenvalues of the end-to-end rule as one function of real or infinite depth.

Source: Arora, Cohen, Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
Overparameterization", ICML 2018, arXiv 1802.06509, Claim 1.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor

from virtualdepth.maths._checks import (
    HOST,
    check_depth,
    check_imbalance,
    check_imbalance_held,
)
from virtualdepth.maths._profile import Imbalance, small_square

# up to this depth a sum or a product over the layers costs less than logarithms or an SVD
_FEW_LAYERS = 8


def has_few_layers(depth: float) -> bool:
    """Tell whether N is an integer from 2 to 8, for which formulas run over the layers."""
    return depth % 1 == 0 and 1 < depth <= _FEW_LAYERS


def layer_count(depth: float) -> float:
    """Return N, or 1 at infinite depth, where the rule is divided by N."""
    return 1.0 if math.isinf(depth) else depth


def gain_exponent(depth: float) -> float:
    """Return 2 - 2/N, the power of a singular value in the rule's gain; 2 at infinite depth."""
    return 2.0 - 2.0 / depth


def depth_kernel(a: Tensor, b: Tensor, depth: float, imbalance: float = 0.0) -> Tensor:
    r"""Evaluate the kernel K by which the rule scales the gradient in a singular basis.

    The entry (r, s) of :math:`U^\top G V` is multiplied by :math:`K(\sigma_r, \sigma_s)`,

    .. math::
        K(a, b) = \sum_{j=1}^{N} a^{2(N-j)/N}\, b^{2(j-1)/N}
                = h^{2-2/N}\, \frac{\mathrm{expm1}(2l)}{\mathrm{expm1}(2l/N)},
        \qquad h = \max(a, b),\quad l = \ln \frac{\min(a, b)}{h} \le 0.

    The right-hand side holds for every real N >= 1 and has no cancellation at equal, tiny or zero
    singular values. At infinite depth the result is the limit of K/N,
    :math:`h^2\,\mathrm{expm1}(2l)/(2l)`. K(0, 0) is 0 for N > 1 and 1 for N = 1.

    With an imbalance :math:`\lambda > 0` one layer is smaller than the N - 1 others: their squared
    singular values are t and :math:`t + \lambda`, where
    :math:`\sigma^2 = F(t) = t\,(t + \lambda)^{N-1}`. K is the divided difference of F,

    .. math::
        K(a, b) = \frac{a^2 - b^2}{t(a) - t(b)}
                = p^{N-1} + t(b)\,\frac{p^{N-1} - q^{N-1}}{p - q},
        \qquad p = t(a) + \lambda,\quad q = t(b) + \lambda,

    without cancellation too, and :math:`K(0, 0) = \lambda^{N-1}`.

    Args:
        a: singular values >= 0, a floating-point tensor that broadcasts with ``b``. A negative
            value beside a positive one gives NaN.
        b: singular values >= 0.
        depth: number of layers N, real, 1 <= N <= inf.
        imbalance: lambda >= 0, in the units of a singular value to the power 2/N; 0 where N is inf.

    Returns:
        K of the broadcast shape, in the units of a singular value to the power 2 - 2/N; inf where
        the dtype cannot hold it. Derivatives are finite: a zero counts as a constant in them, since
        the slope there may be infinite.

    Raises:
        TypeError: if ``a`` or ``b`` is not a floating-point tensor, or ``depth`` or ``imbalance``
            not a real number.
        ValueError: if ``depth`` is NaN or below 1, or ``imbalance`` is negative, more than the
            dtype can hold, or not 0 at infinite depth.

    Source: arXiv 1802.06509, Claim 1 (the eigenvalues of the preconditioner); arXiv 2409.14623
    (the imbalance, at two layers).

    >>> depth_kernel(torch.tensor(4.0), torch.tensor(9.0), 2)  # 4 + 9
    tensor(13.0000)
    >>> depth_kernel(torch.tensor([8.0, 0.0]), torch.tensor([8.0, 8.0]), 3)  # 3 * 8^{4/3}, 8^{4/3}
    tensor([48., 16.])
    >>> depth_kernel(torch.tensor(3.0), torch.tensor(3.0), float("inf"))  # sigma^2
    tensor(9.)
    >>> depth_kernel(torch.tensor(2.0), torch.tensor(0.0), 2, imbalance=3.0)  # 4 = 1 (1 + 3)
    tensor(4.)
    """
    depth = check_depth(depth)
    imbalance = check_imbalance(imbalance, depth)
    for name, tensor in (("a", a), ("b", b)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = tensor.dtype if isinstance(tensor, Tensor) else repr(tensor)
            raise TypeError(
                f"{name}: expected a floating-point tensor but got {found}; wrap a number as in "
                "torch.tensor(2.0, dtype=torch.float64)"
            )
    high, low = torch.maximum(a, b), torch.minimum(a, b)
    if depth == 1:
        return torch.ones_like(high)
    if imbalance != 0:
        check_imbalance_held(imbalance, high.dtype)
        return _unbalanced(high, low, depth, imbalance)
    # the ratio does not matter where high is 0, since the leading power is 0
    ratio = torch.where(high > 0, low / torch.where(high > 0, high, 1.0), 1.0)
    far = (low > 0) & (ratio < torch.finfo(ratio.dtype).tiny)  # the ratio has lost its digits
    logs = [torch.where(far, each, 1.0).log() for each in (low, high)]
    log_ratio = torch.where(far, logs[0] - logs[1], _log(ratio))
    quotient = _quotient(torch.where(far, 0.5, ratio), log_ratio, depth)
    return times_gain(quotient, high, gain_exponent(depth))


def _log(ratio: Tensor) -> Tensor:
    """Take the logarithm of ratios; those of 0 and 1 get a stand-in, for the derivative."""
    return torch.where((ratio == 0) | (ratio == 1), 0.5, ratio).log()


def _quotient(ratio: Tensor, log_ratio: Tensor, depth: float) -> Tensor:
    """Evaluate expm1(2 l) / expm1(2 l / N), with its limits at ratios of 0 and 1."""
    if math.isinf(depth):
        denominator, at_one, at_zero = 2 * log_ratio, 1.0, 0.0
    else:
        denominator, at_one, at_zero = torch.expm1(2 * log_ratio / depth), depth, 1.0
    quotient = torch.expm1(2 * log_ratio) / denominator
    quotient = torch.where(ratio == 0, at_zero, quotient)
    return torch.where(ratio == 1, at_one, quotient)


def _unbalanced(high: Tensor, low: Tensor, depth: float, imbalance: Imbalance) -> Tensor:
    """Evaluate K with an imbalance, for high >= low."""
    small, least = (small_square(each, depth, imbalance) for each in (high, low))
    large = small + imbalance
    part = _divided(large, least + imbalance, depth) * _share(least, large)
    return large.pow(depth - 1) * (1 + part)


def _share(small: Tensor, large: Tensor) -> Tensor:
    """Divide small by large >= small; 0 where both are, as an imbalance may be below the range."""
    return small / torch.where(large > 0, large, 1.0)


def _divided(high: Tensor, low: Tensor, depth: float) -> Tensor:
    """Evaluate (p^{N-1} - q^{N-1}) / (p - q) over p^{N-2}, for p = high >= q = low."""
    ratio = torch.where(high > 0, _share(low, high), 1.0)
    log_ratio = _log(ratio)
    quotient = torch.expm1((depth - 1) * log_ratio) / torch.expm1(log_ratio)
    quotient = torch.where(ratio == 0, 1.0, quotient)
    return torch.where(ratio == 1, depth - 1, quotient)


def times_gain(values: Tensor, sigma: Tensor, exponent: float, factor: float = 1.0) -> Tensor:
    """Multiply values by ``factor`` sigma^exponent, which need not be in range where this is."""
    gain = factor * sigma.pow(exponent)
    info = torch.finfo(gain.dtype)
    if gain.device.type == HOST and gain.numel():
        low, high = torch.aminmax(gain)
        if info.tiny <= low.item() and high.item() <= info.max:
            return gain * values
    extreme = (sigma > 0) & ((gain < info.tiny) | (gain > info.max))
    # stand-ins, where one of the two is not taken, keep NaN out of the derivative
    half = torch.where(extreme, sigma, 1.0).pow(exponent / 2)
    if exponent < 1:  # the slope at 0 is infinite: a zero counts as a constant
        sigma = torch.where(sigma == 0, 0.0, sigma)
    gain = factor * torch.where(extreme, 1.0, sigma).pow(exponent)
    return torch.where(extreme, half * values * half * factor, gain * values)


def kernel_parts(
    sigma: Tensor, depth: float, rtol: float | None = None, imbalance: Imbalance = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut sigma, (..., k), at rtol; return it, K(sigma, 0), (..., k, 1), and K less that."""
    if rtol is None:
        rtol = torch.finfo(sigma.dtype).eps
    sigma = torch.where(sigma > rtol * sigma[..., :1], sigma, 0.0)
    if isinstance(imbalance, Tensor):  # one for each matrix, (...)
        imbalance = imbalance.unsqueeze(-1)
    # K(sigma, 0) acts on the null space of W, where the thin SVD has no basis
    outside = kernel_outside(sigma, depth, imbalance).unsqueeze(-1)
    return sigma, outside, kernel_inside(sigma, depth, imbalance=imbalance)


def kernel_outside(sigma: Tensor, depth: float, imbalance: Imbalance = 0.0) -> Tensor:
    """Evaluate K(sigma, 0) = (t + lambda)^{N-1}, which acts between W and its null space."""
    if isinstance(imbalance, Tensor) or imbalance != 0:
        return (small_square(sigma, depth, imbalance) + imbalance).pow(depth - 1)
    # sigma^{2-2/N}; 0 at infinite depth
    return sigma.pow(2 - 2 / depth) if math.isfinite(depth) else torch.zeros_like(sigma)


def kernel_inside(
    sigma: Tensor, depth: float, scale: Tensor | None = None, imbalance: Imbalance = 0.0
) -> Tensor:
    """Evaluate K(sigma_r, sigma_s) - K(sigma_r, 0), (..., k, k), column s times ``scale[s]``."""
    unbalanced = isinstance(imbalance, Tensor) or imbalance != 0
    if has_few_layers(depth):
        # with t, p of sigma_r and u, q of sigma_s, p = t + lambda: u at N = 2, u (p + q) at N = 3
        small = small_square(sigma, depth, imbalance) if unbalanced else sigma.pow(2 / depth)
        # of small matrices each operation shows: none that adds 0 or multiplies by 1
        large = small + imbalance if unbalanced else small
        powers = [torch.ones_like(large), *accumulate([large] * int(depth - 2), torch.mul)]
        right = torch.stack([small, *(power * small for power in powers[1:])], dim=-2)
        if scale is not None:
            right = right * scale.unsqueeze(-2)
        return torch.stack(powers[::-1], dim=-1) @ right
    if unbalanced:
        inside = _unbalanced_inside(sigma, depth, imbalance)
        return inside if scale is None else inside * scale.unsqueeze(-2)
    rows, columns = sigma.unsqueeze(-1), sigma.unsqueeze(-2)
    # no need of what depth_kernel does for numbers near the ends of the range
    high = torch.maximum(rows, columns)
    ratio = torch.where(high > 0, torch.minimum(rows, columns) / high, 1.0)
    kernel = high.pow(gain_exponent(depth)) * _quotient(ratio, _log(ratio), depth)
    inside = kernel - kernel_outside(rows, depth)
    return inside if scale is None else inside * scale.unsqueeze(-2)


def _unbalanced_inside(sigma: Tensor, depth: float, imbalance: Imbalance) -> Tensor:
    """Evaluate t_s (p_r^{N-1} - p_s^{N-1}) / (p_r - p_s), (..., k, k), at any depth."""
    small = small_square(sigma, depth, imbalance)
    large = small + imbalance
    rows, columns = large.unsqueeze(-1), large.unsqueeze(-2)
    high, low = torch.maximum(rows, columns), torch.minimum(rows, columns)
    part = _divided(high, low, depth) * _share(small.unsqueeze(-2), high)
    return high.pow(depth - 1) * part
