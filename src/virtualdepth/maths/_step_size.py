"""How long a step along P_W(G) may be, and the scales that make a learning rate portable.

P_W grows like sigma_1^{2-2/N}, so a raw learning rate does not carry over between depths or between
scales of W. A step that changes a singular value by a large share of itself loses the bias to low
rank: it ends at a higher effective rank than the flow.
"""

import torch
from torch import Tensor

from virtualdepth.maths._kernel import gain_exponent, layer_count, times_gain
from virtualdepth.maths._preconditioner import Preconditioned, Preconditioner
from virtualdepth.maths._range import times_power

# Below depth 2 the relative speed of a singular value has no bound as sigma_r -> 0. Values below
# this share of sigma_1 are left out, so that they do not hold back the others.
_NEGLIGIBLE = 1e-3

# Share of sigma_1 that is added to a singular value before a change is compared with it. Chosen on
# 100 x 100 completions of depth 4. With a tenth of it the quasi-Newton steps speed up some modes
# before the small ones have grown, and some runs end far from the flow; with ten times, others do.
_FLOOR = 1e-2


def relative_speed(sigma: Tensor, slopes: Tensor, depth: float) -> Tensor:
    """Find max_r K(sigma_r, sigma_r) |slope_r| / sigma_r, (...), for sigma and slopes (..., k)."""
    # K(sigma, sigma) = N sigma^{2-2/N}; arXiv 1905.13655, Theorem 3: d sigma_r / dt = -K_rr slope_r
    slopes = slopes.abs()
    exponent = gain_exponent(depth) - 1
    if exponent < 0:
        counted = sigma > _NEGLIGIBLE * sigma[..., :1]
        sigma, slopes = torch.where(counted, sigma, 1.0), torch.where(counted, slopes, 0.0)
    speed: Tensor = times_gain(slopes, sigma, exponent, layer_count(depth)).amax(-1)
    return speed


def unit_scale(
    preconditioned: Preconditioned, depth: float, lr: float | Tensor, cap: float
) -> Tensor:
    r"""Scale a step so that ``lr`` means what it means for plain gradient descent.

    .. math::
        \min\left(\frac{1}{N \sigma_1^{2-2/N}},\
        \frac{\mathrm{cap}}{\eta \max_r K_{rr} |u_r^\top G v_r| / \sigma_r}\right)

    The first term divides by the largest eigenvalue of P_W: a learning rate below 2 / smoothness is
    stable at every depth and scale of W. The second keeps the relative change of every singular
    value below ``cap``; at depths below 2, of those above a thousandth of the largest. Infinite
    depth divides by :math:`\sigma_1^2`.

    Returns:
        (...), one scale for each matrix; 0 for a matrix of zeros.
    """
    sigma, slopes = preconditioned.singular_values, preconditioned.slopes
    stable, capped = _unit_bounds(sigma, slopes, depth, lr, cap)
    return torch.minimum(stable, capped)


def unit_step(
    preconditioned: Preconditioned, depth: float, lr: float | Tensor, cap: float
) -> Tensor:
    """Multiply P_W(G), (..., m, n), by its :func:`unit_scale`; neither need be in range alone."""
    step, sigma, slopes, units = preconditioned
    stable, capped = _unit_bounds(sigma, slopes, depth, lr, cap)
    if units is None:
        return torch.minimum(stable, capped)[..., None, None] * step
    # the first makes a step in the unit of G, the second one in the unit of W
    is_capped = times_power(capped, units.weight - units.grad) < stable
    scale = torch.where(is_capped, capped, stable)[..., None, None]
    return times_power(scale * step, torch.where(is_capped, units.weight, units.grad))


def _unit_bounds(
    sigma: Tensor, slopes: Tensor, depth: float, lr: float | Tensor, cap: float
) -> tuple[Tensor, Tensor]:
    """Compute both terms of the unit scale, (...); 0 for a matrix of zeros."""
    largest = sigma[..., 0]
    stable = 1 / (layer_count(depth) * largest.pow(gain_exponent(depth)))
    capped = cap / (lr * relative_speed(sigma, slopes, depth))
    return torch.where(largest > 0, stable, 0.0), torch.where(largest > 0, capped, 0.0)


def squared_preconditioned_norm(grad: Tensor, preconditioned: Preconditioned) -> Tensor:
    """Sum <G, P_W(G)> over the batch: the squared gradient norm of N balanced factors."""
    units, step = preconditioned.units, preconditioned.scaled_direction
    if units is None:
        return (grad * step).sum()
    products = times_power(grad.to(step.dtype), -units.grad) * step
    return units.squares(products.sum((-2, -1))).sum()


def relative_change(
    preconditioner: Preconditioner, step: Tensor, *, together: bool = True
) -> Tensor:
    r"""Bound the relative change of every singular value of W by a step D, to first order.

    :math:`\max_r \|D_r\|_F / (\sigma_r + 10^{-2} \sigma_1)`, where :math:`D_r` is D between the
    singular vectors of W from the r-th on. For a singular value apart from the others
    :math:`|u_r^\top D v_r|` would do, and ``together=False`` takes that. But small ones lie close:
    D acts on them as a block, and a block of random entries has singular values far above its
    diagonal.

    Returns:
        (...); NaN where D is not finite.
    """
    sigma = preconditioner.singular_values
    measure = preconditioner.trailing_norms if together else preconditioner.slopes
    norms = measure(step).abs()
    # W = 0 stands still under the rule: 0 / 0 is no change
    ratio = torch.where(norms == 0, 0.0, norms / (sigma + _FLOOR * sigma[..., :1]))
    return ratio.amax(-1)
