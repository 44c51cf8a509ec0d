"""The margin of a classifier, divided by the norm of the weights.

Under losses with an exponential tail (logistic, cross-entropy) on separable data the weights grow
without bound, but the normalised margin converges.
"""

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_matrix, widened
from virtualdepth.maths._range import in_unit, out_of_unit, unit_of


def _margins(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute f_y - max_{j != y} f_j, (samples,), or (2y - 1) f for one score a sample."""
    classes = _check_scores(scores, labels)
    if scores.ndim == 1:
        return torch.where(labels == 1, scores, -scores)
    right = torch.nn.functional.one_hot(labels.long(), classes).bool()
    wrong = scores.masked_fill(right, -torch.inf).amax(-1)
    return scores.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1) - wrong


def normalized_margin(scores: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    r"""Divide the smallest margin by the norm of the end-to-end matrix.

    :math:`\min_i \mathrm{margin}_i / \|W\|_F`, which does not change when W is scaled.

    Args:
        scores: (samples, classes) or (samples,), those of W, at least one sample.
        labels: (samples,), integer classes from 0.
        weight: W, (m, n), the end-to-end matrix.

    Returns:
        A scalar in the units of the inputs; 0 for a matrix of zeros, NaN if W or a score is.
        Rank deficiency does not matter. Half precision is computed in float32.

    Raises:
        TypeError: if scores or W are not real floating-point numbers or labels not integers.
        ValueError: if shapes do not fit, a label is out of range, or there is no sample.

    Source: Soudry, Hoffer, Nacson, Gunasekar, Srebro, "The Implicit Bias of Gradient Descent on
    Separable Data", JMLR 2018, arXiv 1710.10345 (one layer); Ji and Telgarsky, "Gradient Descent
    Aligns the Layers of Deep Linear Networks", ICLR 2019, arXiv 1810.02032 (any depth).

    >>> weight, inputs = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    >>> normalized_margin((inputs @ weight.T).squeeze(-1), torch.tensor([1, 0]), weight)  # 3 / 5
    tensor(0.6000)
    """
    check_matrix(weight)
    if weight.ndim != 2:
        raise ValueError(f"weight: expected one matrix (m, n) but got {tuple(weight.shape)}")
    if scores.shape[:1] == (0,):
        raise ValueError("scores: expected at least one sample but got none")
    smallest = _margins(widened(scores), labels).min()
    unit = unit_of(widened(weight))
    norm = torch.linalg.matrix_norm(in_unit(widened(weight), unit))
    smallest = out_of_unit(smallest, unit, -1.0)
    # "== 0", not "> 0": NaN stays NaN
    return torch.where(norm == 0, 0.0, smallest / torch.where(norm == 0, 1.0, norm))


def _check_scores(scores: Tensor, labels: Tensor) -> int:
    """Return the number of classes; refuse scores and labels that do not fit."""
    if not scores.is_floating_point():
        raise TypeError(f"scores: expected real floating-point numbers but got {scores.dtype}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels: expected integer classes but got {labels.dtype}")
    classes = scores.shape[-1] if scores.ndim == 2 else 2
    if scores.ndim not in (1, 2) or classes < 2:
        raise ValueError(
            "scores: expected (samples,) or (samples, classes) with two or more classes but got "
            f"{tuple(scores.shape)}"
        )
    if labels.shape != scores.shape[:1]:
        raise ValueError(
            f"labels: expected shape {tuple(scores.shape[:1])} but got {tuple(labels.shape)}"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1} but got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
    return classes
