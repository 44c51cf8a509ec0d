"""Two solutions of a linear network, joined by a path on which no loss rises.

Source: Kuditipudi, Wang, Lee, Zhang, Li, Hu, Ge, Arora, "Explaining Landscape Connectivity of
Low-cost Solutions for Multilayer Nets", NeurIPS 2019, arXiv 1906.06247.
"""

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    check_chain,
    check_finite,
    fibre_path,
    partial_products,
    thin_svd,
    working_dtype,
)


def connecting_path(
    first: Sequence[Tensor], second: Sequence[Tensor], points: int = 50
) -> list[list[Tensor]]:
    r"""Join two linear networks by a path whose loss never exceeds that of the worse end.

    It holds for every loss that is convex in :math:`W = W_N \cdots W_1`. From each end two moves
    that leave W as it is, which drop what no later layer reads, and then turn and stretch the
    hidden coordinates, lead to the balanced layers of W in polar form: for m <= n
    :math:`W_1 = |W|^{1/N - 1} W` and :math:`W_j = |W|^{1/N}`, :math:`|W| = (W W^\top)^{1/2}`. They
    are continuous functions of W. Between the two, W moves on a straight line:

    .. math:: l\big((1 - t) W_A + t W_B\big) \le (1 - t)\, l(W_A) + t\, l(W_B)
        \le \max(l(W_A), l(W_B)).

    Two conditions make it possible. Every hidden width is above min(m, n): at min(m, n) the layers
    of one W fall into parts, which differ in signs of determinants. And both matrices have full
    rank. Nothing else is asked: the networks may be far apart and compute different functions.

    Args:
        first: [W_1, ..., W_N], W_1 applied first, W_j (d_j, d_{j-1}); not changed.
        second: the same of the other network, of the same shapes.
        points: of each of the five moves, their ends included; at least 2. Twice as many halve the
            largest step. Where the straight line meets a matrix of lower rank it falls as points
            to the power -1/N only.

    Returns:
        5 (points - 1) + 1 lists of factors: the first is ``first``, the last ``second``, in the
        working dtype: float32, or float64 if a factor is.

    Raises:
        TypeError: if a factor is no real floating-point tensor, or ``points`` no integer.
        ValueError: if there are no factors, or they do not fit, are not finite or not of one dtype
            and device, if the shapes of the networks differ, a hidden width is too small or an
            end-to-end matrix has no full rank, or ``points`` is below 2.
        torch.linalg.LinAlgError: if a decomposition does not converge.

    Source: arXiv 1906.06247; arXiv 1910.01671 (the parts of a fibre).

    >>> first = [torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 0.0]])]  # W = 1
    >>> second = [-first[0], -first[1]]  # the same function: halfway on a straight line W is 0
    >>> path = connecting_path(first, second, points=20)
    >>> len(path), all(torch.allclose(w_2 @ w_1, torch.ones(1, 1)) for w_1, w_2 in path)
    (96, True)
    """
    points = _checked_points(points)
    first, second = (
        _checked(factors, name) for factors, name in ((first, "first"), (second, "second"))
    )
    shapes = [[tuple(factor.shape) for factor in factors] for factors in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"second: expected the shapes of first, {shapes[0]}, but got {shapes[1]}")
    if second[0].device != first[0].device:
        raise ValueError(
            f"second: expected the device of first, {first[0].device}, but got {second[0].device}"
        )
    dtype = torch.promote_types(first[0].dtype, second[0].dtype)
    ends = [[factor.to(dtype) for factor in factors] for factors in (first, second)]
    tall = first[-1].shape[0] > first[0].shape[1]
    if tall:  # W^T = W_1^T ... W_N^T
        ends = [_transposed(factors) for factors in ends]
    there, back = (fibre_path(factors, points) for factors in ends)
    lists = [_along(move) for move in (*there, _across(ends[0], ends[1], points))]
    lists += [_along(move)[::-1] for move in reversed(back)]
    # consecutive moves share an end
    path = [*lists[0], *(factors for move in lists[1:] for factors in move[1:])]
    return [_transposed(factors) for factors in path] if tall else path


def _across(first: Sequence[Tensor], second: Sequence[Tensor], points: int) -> list[Tensor]:
    """Move W on a straight line, (points, m, n), and its balanced layers with it."""
    start, end = (partial_products(factors)[-1] for factors in (first, second))
    times = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)[:, None, None]
    widths = [factor.shape[0] for factor in first[:-1]]
    weights = (1 - times) * start + times * end
    return balanced_factors(weights, len(first), hidden_features=widths, form="polar")


def _along(move: Sequence[Tensor]) -> list[list[Tensor]]:
    """List the points of a move, of layers (points, d_j, d_{j-1})."""
    return [list(factors) for factors in zip(*move, strict=True)]


def _transposed(factors: Sequence[Tensor]) -> list[Tensor]:
    return [factor.mT for factor in reversed(factors)]


def _checked_points(points: int) -> int:
    if isinstance(points, bool):
        raise TypeError(f"points: expected an integer >= 2 but got {points!r}")
    try:
        checked = index(points)
    except TypeError:
        raise TypeError(f"points: expected an integer >= 2 but got {points!r}") from None
    if checked < 2:
        raise ValueError(f"points: expected an integer >= 2 but got {points!r}")
    return checked


def _checked(factors: Sequence[Tensor], name: str) -> list[Tensor]:
    """Return detached factors in the working dtype; refuse a network that no path reaches."""
    try:
        check_chain(factors)
        for number, factor in enumerate(factors, start=1):
            check_finite(factor, f"factors, W_{number}")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if any(factor.ndim > 2 for factor in factors):
        raise ValueError(f"{name}: expected matrices but got a batch of them")
    if len({(factor.dtype, factor.device) for factor in factors}) > 1:
        raise ValueError(
            f"{name}: expected factors of one dtype and device but got "
            f"{[(str(factor.dtype), str(factor.device)) for factor in factors]}"
        )
    dtype = working_dtype(factors[0])
    found = [factor.detach().to(dtype) for factor in factors]
    weight = partial_products(found)[-1]
    rank, widths = min(weight.shape), [factor.shape[0] for factor in factors[:-1]]
    if any(width <= rank for width in widths):
        raise ValueError(
            f"{name}: expected hidden widths above min(m, n) = {rank} but got {widths}: at that "
            "width the networks of one matrix are not connected; widen the layers"
        )
    _check_full_rank(weight, name)
    return found


def _check_full_rank(weight: Tensor, name: str) -> None:
    sigma = thin_svd(weight)[1]
    least = max(weight.shape) * torch.finfo(sigma.dtype).eps * sigma[:1]
    if not (sigma > least).all():
        raise ValueError(
            f"{name}: expected an end-to-end matrix of full rank {len(sigma)} but got singular "
            f"values {sigma.tolist()}; perturb a layer, which changes the loss by as little as you "
            "like"
        )
