"""How much of a gradient acts on singular values alone, and which singular triples match.

Source: Arora, Cohen, Hu, Luo, "Implicit Regularization in Deep Matrix Factorization", NeurIPS 2019,
arXiv 1905.13655, section 3.
"""

import torch
from torch import Tensor

from virtualdepth.maths._checks import (
    check_finite,
    check_matrix,
    check_rtol,
    check_same_shape,
    working_dtype,
)
from virtualdepth.maths._range import in_unit, out_of_unit, unit_of
from virtualdepth.maths._svd import thin_svd


def gradient_alignment(
    weight: Tensor, grad: Tensor, *, rtol: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Compare the diagonal of the gradient in the singular basis of W with its other entries.

    With the thin decomposition :math:`W = U S V^\top` and :math:`C = U^\top G V`: the mean of
    :math:`|C_{rr}|` and the mean of :math:`|C_{rs}|, r \ne s`. The singular vectors stand still
    under the end-to-end rule where C is diagonal, and only singular values move.

    The vectors of a zero singular value are arbitrary, so r and s run over those with
    :math:`\sigma > \mathrm{rtol}\,\sigma_1` only. Among equal singular values the basis, and with
    it the answer, is the library's choice.

    Args:
        weight: W, (..., m, n), finite.
        grad: G, of the same shape, finite.
        rtol: what counts as zero, relative to the largest singular value; default max(m, n) times
            the machine epsilon, as for ``torch.linalg.matrix_rank``.

    Returns:
        Two of shape (...), in the units of G: diagonal, off-diagonal. The second is 0 for a matrix
        of rank 1, both are 0 for a matrix of zeros. Half precision is computed in float32. The
        derivative in W is undefined where singular values are equal or zero: NaN, inf or any
        number.

    Raises:
        TypeError: if an input is complex, integer or sparse.
        ValueError: if shapes differ or have fewer than two dimensions, if an input is not finite,
            or if ``rtol`` is out of range.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1905.13655, Theorem 3 and Corollary 1.

    >>> weight, grad = torch.diag(torch.tensor([4.0, 9.0])), torch.tensor([[1.0, 0.5], [0.0, -2.0]])
    >>> gradient_alignment(weight, grad)
    (tensor(1.5000), tensor(0.2500))
    """
    check_rtol(rtol)
    for name, tensor in (("weight", weight), ("grad", grad)):
        check_matrix(tensor, name)
        check_finite(tensor, name)
    check_same_shape(weight, grad, "grad")
    dtype = working_dtype(weight, grad)
    weight, grad = weight.to(dtype), grad.to(dtype)
    unit = unit_of(grad)
    u, sigma, vh = thin_svd(in_unit(weight, unit_of(weight)))
    if rtol is None:
        rtol = max(weight.shape[-2:]) * torch.finfo(dtype).eps
    kept = sigma > rtol * sigma[..., :1]
    # under autocast the products would silently be taken in half precision
    with torch.autocast(weight.device.type, enabled=False):
        core = (u.mT @ in_unit(grad, unit) @ vh.mT).abs()
    on_diagonal = torch.eye(core.shape[-1], dtype=torch.bool, device=core.device)
    inside = kept.unsqueeze(-1) & kept.unsqueeze(-2)
    diagonal, others = (
        out_of_unit(_mean_where(core, inside & mask), unit) for mask in (on_diagonal, ~on_diagonal)
    )
    return diagonal, others


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Average the masked entries of each matrix, (...); 0 where there are none."""
    total = torch.where(mask, values, 0.0).sum(dim=(-2, -1))
    return total / mask.sum(dim=(-2, -1)).clamp(min=1)


def match_triples(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> Tensor:
    r"""Match each singular triple of a matrix to the one that continues it in a later matrix.

    The overlap is :math:`O_{rs} = |u_r^\top u'_s|\,|v_r^\top v'_s|`. So two singular values that
    cross keep their names, while sorting by size would swap them. Pairs are taken greedily, the
    largest overlap first. Rows and columns of O sum to at most 1 (Cauchy-Schwarz), so every pair
    that overlaps by more than 2/3 is also in the assignment of largest total overlap. Greedy
    differs from that only where triples have mixed too much for either to mean anything, and it
    needs no solver. Cost: two k x k products, and one pass over O for each triple whose overlap is
    at most a half.

    Args:
        before: U (m, k) and V^T (k, n).
        after: the same, of the later matrix.

    Returns:
        (k,), a permutation: triple r continues as triple ``result[r]``.

    >>> u, vh = torch.eye(3), torch.eye(3)
    >>> swapped = torch.tensor([1, 0, 2])
    >>> match_triples((u, vh), (u[:, swapped], vh[swapped]))
    tensor([1, 0, 2])
    """
    overlap = (before[0].mH @ after[0]).abs() * (before[1] @ after[1].mH).abs()
    largest, match = overlap.max(dim=-1)
    # no other entry of its row or column can be as large as one above a half
    undecided = largest <= 0.5
    overlap[~undecided] = -1
    overlap[:, match[~undecided]] = -1
    for _ in range(int(undecided.sum())):
        row, column = divmod(int(overlap.argmax()), overlap.shape[-1])
        match[row] = column
        overlap[row] = -1
        overlap[:, column] = -1
    return match
