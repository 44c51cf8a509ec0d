"""Singular values of matrices of any size, on any leading batch."""

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_finite, check_matrix, widened
from virtualdepth.maths._range import in_unit, out_of_unit, unit_of


def singular_values(weight: Tensor) -> Tensor:
    """Compute the singular values of W, (..., min(m, n)), falling."""
    return out_of_unit(*scaled_singular_values(weight))


def scaled_singular_values(weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Compute the singular values of W in its unit, and the unit's exponent."""
    check_matrix(weight)
    check_finite(weight)
    weight = widened(weight)
    unit = unit_of(weight)
    sigma: Tensor = torch.linalg.svdvals(in_unit(weight, unit))
    return sigma, unit
