"""The error of a completed matrix, on the entries that were observed and on the others."""

import torch
from torch import Tensor

from virtualdepth.maths.checks import check_matrix, widened


def squared_errors(weight: Tensor, target: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the squared errors over the observed and over the unobserved entries, and count both.

    Args:
        weight: W, (..., m, n).
        target: the truth, of the same shape.
        observed: of the same shape, boolean.

    Returns:
        Sums and counts, each (2,): observed, unobserved. Half precision is summed in float32.

    Raises:
        TypeError: if a matrix is complex, integer or sparse, or ``observed`` is not boolean.
        ValueError: if shapes differ or have fewer than two dimensions.

    >>> squared_errors(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), torch.tensor([[True, False]]))
    (tensor([1., 9.]), tensor([1, 1]))
    """
    check_matrix(weight)
    check_matrix(target, "target")
    if observed.dtype != torch.bool:
        raise TypeError(f"observed: expected a boolean mask but got {observed.dtype}")
    for name, tensor in (("target", target), ("observed", observed)):
        if tensor.shape != weight.shape:
            raise ValueError(
                f"{name}: expected the shape {tuple(weight.shape)} of weight but got "
                f"{tuple(tensor.shape)}"
            )
    error = (widened(weight) - widened(target)).square()
    masks = torch.stack([observed, ~observed]).flatten(1)
    # selected, not multiplied: an unobserved entry of the truth may be NaN
    sums = torch.where(masks, error.flatten(), 0.0).sum(-1)
    return sums, masks.sum(-1)


def reconstruction_error(
    weight: Tensor, target: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Take the mean of :math:`(W - W^*)^2` over all, over the observed, over the other entries.

    Args:
        weight: W, (..., m, n).
        target: W*, the truth, of the same shape. NaN in an unobserved entry, for an unknown truth,
            makes the means over all and over the unobserved entries NaN.
        observed: of the same shape, boolean.

    Returns:
        Three scalars in the squared units of W: all, observed, unobserved; NaN for a mean over no
        entries. Zero and rank-deficient matrices are not special.

    Raises:
        TypeError: if a matrix is complex, integer or sparse, or ``observed`` is not boolean.
        ValueError: if shapes differ or have fewer than two dimensions.

    Source: arXiv 1905.13655, section 4 (there called reconstruction error).

    >>> observed = torch.tensor([[True, False]])
    >>> reconstruction_error(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), observed)
    (tensor(5.), tensor(1.), tensor(9.))
    """
    sums, counts = squared_errors(weight, target, observed)
    means = sums / counts
    return sums.sum() / counts.sum(), means[0], means[1]
