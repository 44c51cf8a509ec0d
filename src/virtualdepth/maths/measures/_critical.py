"""How far a direction is from a critical point of the largest margin at a depth.

Losses with an exponential tail drive the direction of W to such a point.
"""

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_depth, check_finite, check_real, most_exact
from virtualdepth.maths._precondition import precondition
from virtualdepth.maths._svd import LinAlgError
from virtualdepth.maths.structures import StructureName


def margin_residual(
    weight: Tensor, gradients: Tensor, depth: float, *, structure: StructureName = "matrix"
) -> Tensor:
    r"""Measure how far W / ||W|| is from a critical point of the largest margin.

    .. math:: \min_{c \ge 0} \Bigl\| V - \sum_i c_i\, P_V(g_i) \Bigr\|_F, \qquad V = W / \|W\|_F,

    the distance of V from the cone of the directions :math:`P_V(g_i)`. It is 0 where the balanced
    layers of W meet the conditions of Karush, Kuhn and Tucker of

    .. math:: \min \sum_j \|W_j\|_F^2 \quad \text{such that every margin of } W_N \cdots W_1
        \text{ is at least } 1,

    and there the flow of an exponential loss keeps the direction V. At depth 1 only the largest
    margin is such a point. At depth 2, of the nuclear norm, it is one of them: others may have too
    low a rank.

    Args:
        weight: W, (m, n), finite, not 0; any shape that ``structure`` has a meaning for.
        gradients: the derivatives :math:`g_i` of the active margins, those near the least one, in
            W, (k, *shape of W). For a linear classifier with a margin
            :math:`s_y - s_j`, s = W x, it is :math:`(e_y - e_j) x^\top`.
        depth: number of layers N, real, 1 <= N <= inf.
        structure: as in :func:`precondition`.

    Returns:
        A scalar from 0 to 1, the distance of V from 0. It does not change when W or a gradient is
        scaled.

    Raises:
        TypeError: if W or the gradients are not real floating-point numbers.
        ValueError: if shapes do not fit, W is 0 or not finite, or an option is out of range.
        torch.linalg.LinAlgError: if the least squares problem or an SVD does not converge.

    Source: arXiv 1906.05890 (critical points of homogeneous networks); arXiv 1806.00468 (linear
    ones); Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23 (the method).

    >>> weight = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    >>> one = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)  # the margin of one sample
    >>> margin_residual(weight, one, 1)  # largest margin: along the sample; the sine is 4 / 5
    tensor(0.8000, dtype=torch.float64)
    >>> margin_residual(weight, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), 2)
    tensor(0., dtype=torch.float64)
    """
    check_depth(depth)
    check_real(weight)
    check_finite(weight)
    check_real(gradients, "gradients")
    check_finite(gradients, "gradients")
    if gradients.numel() == 0 or gradients.shape[1:] != weight.shape:
        raise ValueError(
            f"gradients: expected the shape (k, *{tuple(weight.shape)}), k >= 1, but got "
            f"{tuple(gradients.shape)}"
        )
    direction = _normalised(most_exact(weight))
    if not direction.any():
        raise ValueError("weight: expected one that is not 0 but got only zeros")
    moved = [
        _normalised(precondition(direction, _normalised(grad), depth, structure=structure))
        for grad in most_exact(gradients)
    ]
    cone = torch.stack([each.flatten() for each in moved], 1)
    return _distance_from_cone(cone, direction.flatten())


def _normalised(tensor: Tensor) -> Tensor:
    """Scale to norm 1; by the largest entry first, so that no square leaves the range."""
    peak = tensor.abs().amax() if tensor.numel() else tensor.new_ones(())
    scaled = tensor / torch.where(peak > 0, peak, 1.0)
    norm = torch.linalg.vector_norm(scaled)
    return scaled / torch.where(norm > 0, norm, 1.0)


def _distance_from_cone(columns: Tensor, target: Tensor) -> Tensor:
    """Compute min over c >= 0 of ||A c - b||, A (n, k) of unit columns, by active sets."""
    count, tolerance = columns.shape[1], 1e-13
    chosen = torch.zeros(count, dtype=torch.bool, device=columns.device)
    found = columns.new_zeros(count)
    for _ in range(3 * count + 1):
        residual = target - columns @ found
        pulls = (columns.mT @ residual).masked_fill(chosen, 0.0)
        if float(pulls.amax()) <= tolerance:
            return residual.square().sum().sqrt()
        chosen[pulls.argmax()] = True
        found = _step_back(columns, target, chosen, found)
    raise LinAlgError("the nonnegative least squares problem did not converge")


def _step_back(columns: Tensor, target: Tensor, chosen: Tensor, found: Tensor) -> Tensor:
    """Solve for the chosen columns; drop those, in place, whose coefficients would be negative."""
    while True:
        solved = torch.zeros_like(found)
        solved[chosen] = torch.linalg.lstsq(columns[:, chosen], target.unsqueeze(1))[0].squeeze(1)
        negative = chosen & (solved <= 0)
        if not negative.any():
            return solved
        share = (found / (found - solved))[negative].amin()
        found = found + share * (solved - found)
        # the one that bounds the share is 0 up to rounding
        chosen &= found > 1e-15
        found = torch.where(chosen, found, 0.0)
