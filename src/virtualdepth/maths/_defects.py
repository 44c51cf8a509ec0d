"""How far adjacent layers are from balance, as matrices."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from virtualdepth.maths._checks import widened
from virtualdepth.maths._range import frobenius_norm, in_unit, out_of_unit, unit_of


def defects(factors: Sequence[Tensor]) -> Tensor:
    """Compute ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F of each pair, (..., N - 1)."""
    values = []
    for pair in pairwise(map(widened, factors)):
        unit = unit_of(*pair)
        value = defect(*(in_unit(factor, unit) for factor in pair))
        values.append(out_of_unit(value, unit, 2.0))
    return stacked(values, factors)


def defect(before: Tensor, after: Tensor) -> Tensor:
    """Compute ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F, (...), of matrices in the ordinary range."""
    # under autocast the products would silently be taken in half precision
    with torch.autocast(before.device.type, enabled=False):
        return frobenius_norm(after.mT @ after - before @ before.mT)


def stacked(values: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """Stack one value, (...), for each pair of adjacent layers; (..., 0) for one layer."""
    if not values:
        return widened(factors[0].new_empty(*factors[0].shape[:-2], 0))
    return torch.stack(tuple(values), dim=-1)
