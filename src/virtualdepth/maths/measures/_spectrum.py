"""Measures of the size of a spectrum: ranks and Schatten norms, on any leading batch.

Each takes a finite W, (..., m, n), returns (...) in float64 if W is, else in float32, and raises
TypeError or ValueError where W is not such a matrix. A matrix without entries measures 0. With
another structure than "matrix" the sizes of all blocks make one spectrum, and one number.

Gradients in W are finite everywhere. Where a measure has a corner, at zeros and at equal largest
singular values, they are those of one of its sides; where its slope is infinite, a singular value
of exactly 0 counts as a constant.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_finite, check_real
from virtualdepth.maths._kernel import times_gain
from virtualdepth.maths._range import out_of_unit
from virtualdepth.maths.structures import STRUCTURES, StructureName, check_structure


def sizes_in_unit(weight: Tensor, structure: StructureName) -> tuple[Tensor, Tensor | None]:
    """Compute the sizes of W in its unit, falling, and the unit's exponent."""
    kind = STRUCTURES[check_structure(structure)]
    check_real(weight)
    kind.check(weight.shape, "weight")
    check_finite(weight)
    sizes, unit = kind.scaled_sizes(weight)
    # stable: among equal ones the first, of which the derivative is one of the sides
    return sizes.sort(dim=-1, descending=True, stable=True).values, unit


def nuclear_norm(weight: Tensor, *, structure: StructureName = "matrix") -> Tensor:
    r"""Sum the singular values: :math:`\|W\|_* = \sum_r \sigma_r`.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        structure: what to measure in place of singular values: the norms of all "rows" or
            "columns", the absolute entries ("diagonal"), or the singular values of all frequencies
            ("circulant"; a pair of conjugates counts once), as in :func:`precondition`.

    Returns:
        (...), in the units of W; 0 for a matrix of zeros. The gradient is finite everywhere, at
        zero singular values one of the subgradients.

    Raises:
        TypeError: if W is complex, integer or sparse.
        ValueError: if W has too few dimensions or is not finite, or there is no such structure.

    >>> nuclear_norm(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(7.)
    >>> nuclear_norm(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), structure="rows")  # the l_{1,2} norm
    tensor(7.)
    """
    sigma, unit = sizes_in_unit(weight, structure)
    return out_of_unit(sigma.sum(-1), unit)


def spectral_norm(weight: Tensor, *, structure: StructureName = "matrix") -> Tensor:
    r"""Take the largest singular value, :math:`\sigma_1`.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        structure: what to measure in place of singular values: the norms of all "rows" or
            "columns", the absolute entries ("diagonal"), or the singular values of all frequencies
            ("circulant"; a pair of conjugates counts once), as in :func:`precondition`.

    Returns:
        (...), in the units of W; 0 for a matrix of zeros. The gradient is finite everywhere, where
        the largest singular values are equal one of the subgradients.

    Raises:
        TypeError: if W is complex, integer or sparse.
        ValueError: if W has too few dimensions or is not finite, or there is no such structure.

    >>> spectral_norm(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(4.)
    """
    sizes, unit = sizes_in_unit(weight, structure)
    return out_of_unit(sizes[..., :1].sum(-1), unit)


def schatten_norm(weight: Tensor, p: float, *, structure: StructureName = "matrix") -> Tensor:
    r"""Take the p-norm of the singular values: :math:`(\sum_r \sigma_r^p)^{1/p}`.

    p = 1 is the nuclear, 2 the Frobenius, inf the spectral norm; 0 < p < 1 gives a quasi-norm. An
    L2 penalty on N balanced factors amounts to the one with p = 2/N.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        p: 0 < p <= inf.
        structure: what to measure in place of singular values: the norms of all "rows" or
            "columns", the absolute entries ("diagonal"), or the singular values of all frequencies
            ("circulant"; a pair of conjugates counts once), as in :func:`precondition`.

    Returns:
        (...), in the units of W; 0 for a matrix of zeros. The gradient is finite everywhere: for
        p < 1 a singular value of exactly 0 counts as a constant, since the slope there is infinite.

    Raises:
        TypeError: if W is complex, integer or sparse, or ``p`` is not a real number.
        ValueError: if W has too few dimensions or is not finite, ``p`` is not positive, or there is
            no such structure.

    >>> schatten_norm(torch.diag(torch.tensor([3.0, 4.0])), 2)
    tensor(5.)
    """
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"p: expected a number > 0 or inf but got {p!r}")
    if not p > 0:
        raise ValueError(f"p: expected a number > 0 or inf but got {p!r}")
    sigma, unit = sizes_in_unit(weight, structure)
    largest, relative = relative_sizes(sigma)
    if math.isinf(p):
        return out_of_unit(largest, unit)
    # a zero has no part: for p < 1 its slope is infinite, and so is that of the root where all are
    powers = torch.where(relative > 0, torch.where(relative > 0, relative, 1.0).pow(p), 0.0)
    total = powers.sum(-1)
    root = times_gain(largest, torch.where(total > 0, total, 1.0), 1 / p)
    return out_of_unit(root, unit)


def stable_rank(weight: Tensor, *, structure: StructureName = "matrix") -> Tensor:
    r"""Divide the squared Frobenius by the squared spectral norm: :math:`\|W\|_F^2/\sigma_1^2`.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        structure: what to measure in place of singular values: the norms of all "rows" or
            "columns", the absolute entries ("diagonal"), or the singular values of all frequencies
            ("circulant"; a pair of conjugates counts once), as in :func:`precondition`.

    Returns:
        (...) between 1 and min(m, n); 0 for a matrix of zeros. The gradient is finite everywhere;
        where the largest singular values are equal, it is that of one side.

    Raises:
        TypeError: if W is complex, integer or sparse.
        ValueError: if W has too few dimensions or is not finite, or there is no such structure.

    >>> stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    tensor(1.5000)
    """
    _, relative = relative_sizes(sizes_in_unit(weight, structure)[0])
    return relative.square().sum(-1)


def effective_rank(weight: Tensor, *, structure: StructureName = "matrix") -> Tensor:
    r"""Exponentiate the entropy of the normalised singular values.

    :math:`\exp(-\sum_r p_r \ln p_r)` with :math:`p_r = \sigma_r / \sum_s \sigma_s`: k equal
    singular values give k.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        structure: what to measure in place of singular values: the norms of all "rows" or
            "columns", the absolute entries ("diagonal"), or the singular values of all frequencies
            ("circulant"; a pair of conjugates counts once), as in :func:`precondition`.

    Returns:
        (...) between 1 and min(m, n); 0 for a matrix of zeros. The gradient is finite everywhere: a
        singular value of exactly 0 counts as a constant, since the slope there is infinite.

    Raises:
        TypeError: if W is complex, integer or sparse.
        ValueError: if W has too few dimensions or is not finite, or there is no such structure.

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", 2007.

    >>> effective_rank(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    tensor(2.)
    >>> effective_rank(torch.tensor([0.5, 0.0, -0.5, 0.5]), structure="diagonal")  # entries
    tensor(3.)
    """
    return effective_rank_of_spectrum(sizes_in_unit(weight, structure)[0])


def effective_rank_of_spectrum(sigma: Tensor) -> Tensor:
    """Compute the effective rank, (...), of singular values, (..., k), falling."""
    _, relative = relative_sizes(sigma)
    relative = torch.where(relative > 0, relative, 0.0)  # a constant where it is 0
    total = relative.sum(-1)
    share = relative / torch.where(total > 0, total, 1.0).unsqueeze(-1)
    # entr(1) = 0 too, and its slope is not infinite
    rank = torch.special.entr(torch.where(share > 0, share, 1.0)).sum(-1).exp()
    return torch.where(total > 0, rank, 0.0)


def relative_sizes(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return sigma_1, (...), and sigma / sigma_1: its powers and sums stay in the dtype's range."""
    largest = sigma[..., :1].sum(-1)  # 0 where there is none
    return largest, sigma / torch.where(largest > 0, largest, 1.0).unsqueeze(-1)
