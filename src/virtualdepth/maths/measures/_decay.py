"""What weight decay on the layers of a balanced network adds to its loss."""

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_depth
from virtualdepth.maths._kernel import times_gain
from virtualdepth.maths._range import out_of_unit
from virtualdepth.maths.measures._spectrum import relative_sizes, sizes_in_unit
from virtualdepth.maths.structures import StructureName


def decay_penalty(weight: Tensor, depth: float, *, structure: StructureName = "matrix") -> Tensor:
    r"""Compute what ``weight_decay`` adds to the loss at a depth, for a decay of 1.

    .. math:: \frac N2 \sum_r \sigma_r^{2/N} = \frac N2 \|W\|_{S_{2/N}}^{2/N}
        = \min_{W_N \cdots W_1 = W} \frac12 \sum_j \|W_j\|_F^2

    The minimum is at balanced layers. So :class:`virtualdepth.EndToEndSGD` with ``weight_decay``
    :math:`\lambda` lowers the loss plus :math:`\lambda` times this. It is half the squared norm at
    depth 1, the nuclear norm at 2, and less at each size as the depth grows.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        depth: N, 1 <= N < inf. At infinite depth the sum has no limit.
        structure: "matrix", or what has these sizes in place of singular values: "rows", "columns"
            or "diagonal". In "circulant" a frequency would count by how often it stands in the
            signal; this is not offered.

    Returns:
        (...); 0 for a matrix of zeros. In gradients a size of exactly 0 counts as a constant for
        N > 2, since the slope there is infinite.

    Raises:
        TypeError: if W is complex, integer or sparse, or ``depth`` is not a real number.
        ValueError: if W has too few dimensions or is not finite, ``depth`` is below 1 or infinite,
            or there is no such structure.

    Source: arXiv cs/0408011 (N = 2); arXiv 1606.00668, theorem 3.

    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> decay_penalty(weight, 1), decay_penalty(weight, 2), decay_penalty(weight, 4)
    (tensor(48.5000), tensor(13.), tensor(10.))
    """
    depth = check_depth(depth)
    if depth == float("inf"):
        raise ValueError("depth: expected a finite number >= 1 but got inf: the sum has no limit")
    if structure == "circulant":
        raise ValueError(
            "structure: expected one of matrix, rows, columns, diagonal but got 'circulant'"
        )
    sizes, unit = sizes_in_unit(weight, structure)
    largest, relative = relative_sizes(sizes)
    power = 2 / depth
    # a zero has no part: for N > 2 its slope is infinite
    powers = torch.where(relative > 0, torch.where(relative > 0, relative, 1.0).pow(power), 0.0)
    total = times_gain(powers.sum(-1), largest, power, depth / 2)
    return out_of_unit(total, unit, power)
