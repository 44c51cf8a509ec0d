"""How far an end-to-end matrix is from another one."""

import torch
from torch import Tensor

from virtualdepth.maths._checks import (
    check_finite,
    check_matrix,
    check_same_shape,
    widened,
    working_dtype,
)
from virtualdepth.maths._range import frobenius_norm, in_unit, unit_of
from virtualdepth.maths._singular_values import singular_values


def end_to_end_gap(weight: Tensor, reference: Tensor) -> Tensor:
    r"""Divide the distance of two matrices by the size of the second.

    :math:`\|W - W'\|_F / \|W'\|_F`.

    Args:
        weight: W, (..., m, n).
        reference: W', of the same shape.

    Returns:
        (...), without unit; where W' is zero, 0 if W is zero too and inf, without a derivative, if
        it is not. The gradient at W = W' is 0. Half precision is computed in float32.

    Raises:
        TypeError: if an input is complex, integer or sparse.
        ValueError: if shapes differ or have fewer than two dimensions.

    >>> end_to_end_gap(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]]))  # 4 / 3
    tensor(1.3333)
    """
    _check_pair(weight, reference, "reference")
    dtype = working_dtype(weight, reference)
    unit = unit_of(weight.to(dtype), reference.to(dtype))
    weight, reference = in_unit(weight.to(dtype), unit), in_unit(reference.to(dtype), unit)
    distance, size = frobenius_norm(weight - reference), frobenius_norm(reference)
    # so 0 / 0 is 0, and its derivative is not NaN
    ratio: Tensor = distance / torch.where(distance > 0, size, 1.0)
    return ratio


def deficiency_margin(weight: Tensor, target: Tensor) -> Tensor:
    r"""Compute how much nearer a matrix is to its target than any singular matrix is.

    :math:`c = \sigma_{\min}(\Phi) - \|W - \Phi\|_F`: W has deficiency margin c' with respect to
    :math:`\Phi` for every 0 < c' <= c, so it has one exactly where c > 0. Then every matrix at
    least as near to :math:`\Phi` as W has :math:`\sigma_{\min} \ge c`.

    Args:
        weight: W, (..., m, n).
        target: Phi, of the same shape, finite.

    Returns:
        (...), in the units of W; not positive where Phi is zero or rank-deficient: then
        :math:`\sigma_{\min}(\Phi) = 0` and no W has a margin. Half precision is computed
        in float32.

    Raises:
        TypeError: if an input is complex, integer or sparse.
        ValueError: if shapes differ or have fewer than two dimensions, or Phi is not finite.

    Source: arXiv 1810.02281, Definition 2.

    >>> weight, target = torch.diag(torch.tensor([2.0, 2.5])), torch.diag(torch.tensor([2.0, 3.0]))
    >>> deficiency_margin(weight, target)  # 2 - 1/2
    tensor(1.5000)
    """
    _check_pair(weight, target, "target")
    check_finite(target, "target")
    distance = frobenius_norm(widened(weight) - widened(target))
    # a matrix without entries has none
    margin: Tensor = singular_values(target)[..., -1:].sum(-1) - distance
    return margin


def _check_pair(weight: Tensor, other: Tensor, name: str) -> None:
    """Refuse what are not two matrices of one shape."""
    check_matrix(weight)
    check_matrix(other, name)
    check_same_shape(weight, other, name)
