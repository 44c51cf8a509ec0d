"""The error of a completed matrix, on the entries that were observed and on the others."""

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_matrix, check_same_shape, widened
from virtualdepth.maths._svd import thin_svd


def squared_errors(weight: Tensor, target: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the squared errors of (observed, unobserved) entries, (2,), and count them, (2,)."""
    check_matrix(weight)
    check_matrix(target, "target")
    if observed.dtype != torch.bool:
        raise TypeError(f"observed: expected a boolean mask but got {observed.dtype}")
    check_same_shape(weight, target, "target")
    check_same_shape(weight, observed, "observed")
    error = (widened(weight) - widened(target)).square()
    masks = torch.stack([observed, ~observed]).flatten(1)
    # selected, not multiplied: an unobserved entry of the truth may be NaN
    sums = torch.where(masks, error.flatten(), 0.0).sum(-1)
    return sums, masks.sum(-1)


def reconstruction_error(
    weight: Tensor, target: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Average :math:`(W - W^*)^2` over all, over the observed and over the unobserved entries.

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


def complete_rows(rows: Tensor, observed: Tensor, features: Tensor, noise: float) -> Tensor:
    r"""Fill rows by ridge regression of their observed entries on given features.

    Row x becomes F c with the c of minimal :math:`\|x_O - F_O c\|^2 + \nu \|c\|^2`, O its observed
    entries: the mean of x = F c + noise given x_O, for standard normal c and noise of variance
    :math:`\nu`. With :math:`\nu = 0` c is the solution of least squares of smallest norm.

    Args:
        rows: (r, n), read where observed only.
        observed: (r, n), boolean.
        features: F, (n, k), finite.
        noise: the variance :math:`\nu` >= 0, in the squared units of the rows.

    Returns:
        (r, n), float64; zeros for a row without an observed entry.

    Source: Tipping and Bishop, "Probabilistic principal component analysis", J. R. Statist. Soc. B
    61, 1999, section 3 (the posterior of c).

    >>> features = torch.tensor([[1.0], [2.0]])
    >>> rows, observed = torch.tensor([[3.0, 0.0]]), torch.tensor([[True, False]])
    >>> complete_rows(rows, observed, features, 0.0)
    tensor([[3., 6.]], dtype=torch.float64)
    >>> complete_rows(rows, observed, features, 1.0)
    tensor([[1.5000, 3.0000]], dtype=torch.float64)
    """
    features = features.double()
    filled = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    for row, mask, out in zip(rows.double(), observed, filled, strict=True):
        if not mask.any():
            continue
        u, sigma, vh = thin_svd(features[mask])
        # a direction that is zero up to rounding explains nothing
        floor = sigma[:1].sum() * max(features.shape) * torch.finfo(torch.float64).eps
        gain = torch.where(sigma > floor, sigma / (sigma.square() + noise), 0.0)
        out.copy_(features @ (vh.mT @ (gain * (u.mT @ row[mask]))))
    return filled
