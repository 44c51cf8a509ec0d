"""How long a step along P_W(G) may be, and the scales that make a learning rate portable.

P_W grows like sigma_1^{2-2/N}, so a raw learning rate does not carry over between depths or between
scales of W. A step that changes a singular value by a large share of itself loses the bias to low
rank: it ends at a higher effective rank than the flow.
"""

from functools import partial

import torch
from torch import Tensor

from virtualdepth.maths._kernel import gain_exponent, layer_count, times_gain
from virtualdepth.maths._preconditioner import (
    Extent,
    Preconditioned,
    Preconditioner,
    spectral_bound,
)
from virtualdepth.maths._profile import Imbalance, gain_rate, is_balanced, least_size
from virtualdepth.maths._range import times_power

# Below depth 2 the relative speed of a singular value has no bound as sigma_r -> 0. Values below
# this share of sigma_1 are left out, so that they do not hold back the others.
_NEGLIGIBLE = 1e-3

# Share of sigma_1 that is added to a singular value before a change is compared with it. Chosen on
# 100 x 100 completions of depth 4. With a tenth of it the quasi-Newton steps speed up some modes
# before the small ones have grown, and some runs end far from the flow; with ten times, others do.
_FLOOR = 1e-2


def relative_speed(
    sigma: Tensor, slopes: Tensor, depth: float, imbalance: Imbalance = 0.0
) -> Tensor:
    """Find max_r K(sigma_r, sigma_r) |slope_r| / (sigma_r + lambda^{N/2}), (...), of (..., k)."""
    # K(sigma, sigma) = N sigma^{2-2/N}; arXiv 1905.13655, Theorem 3: d sigma_r / dt = -K_rr slope_r
    slopes = slopes.abs()
    exponent = gain_exponent(depth) - 1
    if exponent < 0:
        counted = sigma > _NEGLIGIBLE * sigma.amax(-1, keepdim=True)
        sigma, slopes = torch.where(counted, sigma, 1.0), torch.where(counted, slopes, 0.0)
    if not is_balanced(imbalance):
        if isinstance(imbalance, Tensor):  # one for each matrix, (...)
            imbalance = imbalance.unsqueeze(-1)
        speeds = gain_rate(sigma, depth, imbalance) * slopes
        return _shares(speeds, sigma + least_size(depth, imbalance)).amax(-1)
    speed: Tensor = times_gain(slopes, sigma, exponent, layer_count(depth)).amax(-1)
    return speed


def extent_of(preconditioned: Preconditioned, depth: float, imbalance: Imbalance) -> Extent:
    """Find the extent of P_W(G), given its singular values and slopes."""
    step, sigma, slopes, *_ = preconditioned
    largest, speed = sigma.amax(-1), relative_speed(sigma, slopes, depth, imbalance)
    if not is_balanced(imbalance):
        # slopes along singular vectors do not tell how far zeros, which have none, move
        whole = _shares(spectral_bound(step), largest + least_size(depth, imbalance))
        speed = torch.maximum(speed, whole)
    return Extent(largest, speed)


def largest_share(
    sizes: Tensor, along: Tensor, whole: Tensor, largest: Tensor, depth: float, imbalance: Imbalance
) -> Tensor:
    """Find the speed in an :class:`Extent` of blocks of one singular value each; one number.

    Args:
        sizes: the singular values.
        along: how fast they move.
        whole: the norms of the blocks of P_W(G).
        largest: of all sizes.
        depth: number of layers N.
        imbalance: lambda.

    Returns:
        The speed, relative to the size.
    """
    least = least_size(depth, imbalance)
    if depth < 2:
        along = torch.where(sizes > _NEGLIGIBLE * largest, along, 0.0)
    # no change of nothing is 0
    share = (along / (sizes + least).clamp_min(torch.finfo(sizes.dtype).tiny)).amax()
    if is_balanced(imbalance):
        return share
    return torch.maximum(share, whole.amax() / (largest + least))


def unit_scale(
    preconditioned: Preconditioned,
    depth: float,
    lr: float | Tensor,
    cap: float,
    imbalance: float = 0.0,
) -> Tensor:
    r"""Scale a step so that ``lr`` means what it means for plain gradient descent.

    .. math::
        \min\left(\frac{1}{K_{11}},\
        \frac{\mathrm{cap}}{\eta \max_r K_{rr} |u_r^\top G v_r| / \sigma_r}\right),
        \qquad K_{11} = N \sigma_1^{2-2/N}

    The first term divides by the largest eigenvalue of P_W: a learning rate below 2 / smoothness is
    stable at every depth and scale of W. The second keeps the relative change of every singular
    value below ``cap``; at depths below 2, of those above a thousandth of the largest. Infinite
    depth divides by :math:`\sigma_1^2`.

    With an imbalance :math:`\lambda` the cap counts from :math:`\sigma_r + \lambda^{N/2}`, and the
    spectral norm of a step is at most cap :math:`(\sigma_1 + \lambda^{N/2})`. So a step from zero
    is at most cap :math:`\lambda^{N/2}`, where "1 over the gain" would be a whole plain step, and
    lose the bias.

    Returns:
        (...), one scale for each matrix, or one for all blocks of another structure; 0 for zeros
        without an imbalance.
    """
    stable, capped = _unit_bounds(preconditioned, depth, lr, cap, imbalance)
    units = preconditioned.units
    if units is not None:
        stable = times_power(stable, units.weight, -units.gain)
        capped = times_power(times_power(capped, units.weight, 1 - units.gain), -units.grad)
    return torch.minimum(stable, capped)


def unit_step(
    preconditioned: Preconditioned,
    depth: float,
    lr: float | Tensor,
    cap: float,
    imbalance: float = 0.0,
) -> Tensor:
    """Multiply P_W(G), (..., m, n), by its :func:`unit_scale`; neither need be in range alone."""
    stable, capped = _unit_bounds(preconditioned, depth, lr, cap, imbalance)
    step, units = preconditioned.scaled_direction, preconditioned.units
    if units is None:
        return times_each(torch.minimum(stable, capped), step)
    # the first makes a step in the unit of G, the second one in the unit of W
    is_capped = times_power(capped, units.weight - units.grad) < stable
    step = times_each(torch.where(is_capped, capped, stable), step)
    return times_power(step, torch.where(is_capped, units.weight, units.grad))


def times_each(scale: Tensor, steps: Tensor) -> Tensor:
    """Multiply each of some steps, (..., *), by a scale of its own, (...)."""
    product: Tensor = scale.reshape(scale.shape + (1,) * (steps.ndim - scale.ndim)) * steps
    return product


def _unit_bounds(
    preconditioned: Preconditioned,
    depth: float,
    lr: float | Tensor,
    cap: float,
    imbalance: float,
) -> tuple[Tensor, Tensor]:
    """Compute both terms of the unit scale, (...), in the units of W and G; 0 for zeros."""
    units = preconditioned.units
    there = imbalance if units is None else units.imbalance
    find = preconditioned.extent or partial(extent_of, preconditioned, depth, there)
    largest, speed = find()
    if is_balanced(imbalance):
        top = layer_count(depth) * largest.pow(gain_exponent(depth))
    else:
        top = gain_rate(largest, depth, there)
    moves = top > 0
    return torch.where(moves, 1 / top, 0.0), torch.where(moves, cap / (lr * speed), 0.0)


def _shares(changes: Tensor, sizes: Tensor) -> Tensor:
    """Divide changes by sizes; no change of nothing is 0."""
    return torch.where(changes == 0, 0.0, changes / sizes)


def squared_preconditioned_norm(grad: Tensor, preconditioned: Preconditioned) -> Tensor:
    """Sum <G, P_W(G)> over the batch: the squared gradient norm of N balanced factors."""
    units, step = preconditioned.units, preconditioned.scaled_direction
    if units is None:
        return (grad * step).sum()
    products = times_power(grad.to(step.dtype), -units.grad) * step
    each = tuple(range(units.weight.ndim, products.ndim))
    return units.squares(products.sum(each)).sum()


def relative_change(
    preconditioner: Preconditioner, step: Tensor, *, together: bool = True, least: Imbalance = 0.0
) -> Tensor:
    r"""Bound the relative change of every singular value of W by a step D, to first order.

    :math:`\max_r \|D_r\|_F / (\sigma_r + 10^{-2} \sigma_1 + l)`, where :math:`D_r` is D between the
    singular vectors of W from the r-th on. For a singular value apart from the others
    :math:`|u_r^\top D v_r|` would do, and ``together=False`` takes that. But small ones lie close:
    D acts on them as a block, and a block of random entries has singular values far above its
    diagonal. ``least`` is l, with an imbalance :func:`least_size`.

    Returns:
        (...); NaN where D is not finite.
    """
    sigma = preconditioner.singular_values
    measure = preconditioner.trailing_norms if together else preconditioner.slopes
    norms = measure(step).abs()
    # W = 0 stands still under the rule: 0 / 0 is no change
    return _shares(norms, sigma + _FLOOR * sigma[..., :1] + least).amax(-1)
