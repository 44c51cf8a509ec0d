"""Factors of a matrix: balanced ones, their product and gradients, and their distance from balance.

Source: Arora, Cohen, Golowich, Hu, "A Convergence Analysis of Gradient Descent for Deep Linear
Neural Networks", ICLR 2019, arXiv 1810.02281, Definition 1 and Procedure 1.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import get_args

import torch
from torch import Tensor

from virtualdepth.maths._chain import check_chain, check_integer_depth
from virtualdepth.maths._checks import (
    check_finite,
    check_imbalance,
    check_imbalance_held,
    check_real,
    widened,
    working_dtype,
)
from virtualdepth.maths._defects import defect, stacked
from virtualdepth.maths._range import frobenius_norm, in_unit, unit_of
from virtualdepth.maths.structures import STRUCTURES, Form, StructureName, check_structure


def balanced_factors(
    weight: Tensor,
    depth: int,
    *,
    hidden_features: int | Sequence[int] | None = None,
    structure: StructureName = "matrix",
    imbalance: float = 0.0,
    form: Form = "svd",
) -> list[Tensor]:
    r"""Factor W into N balanced layers with product W.

    With the thin SVD :math:`W = U S V^\top`, each padded by zeros to its layer's shape:
    :math:`W_N = U S^{1/N}`, :math:`W_{N-1} = \dots = W_2 = S^{1/N}`,
    :math:`W_1 = S^{1/N} V^\top`.

    With an imbalance :math:`\lambda` one layer has singular values :math:`t^{1/2}` and the others
    :math:`(t + \lambda)^{1/2}`, where :math:`t\,(t + \lambda)^{N-1} = \sigma^2`, so that W may be
    0. The smaller one is :math:`W_1`, but :math:`W_N` if m > n, since directions outside of W
    are moved by the layer on the long side alone.

    Args:
        weight: W, finite; (..., m, n), or any shape that ``structure`` has a meaning for.
        depth: number of layers N, an integer >= 1.
        hidden_features: one hidden width or N - 1, from input to output, each >= min(m, n);
            default min(m, n). None with any ``structure`` but "matrix".
        structure: "matrix", "rows", "columns", "diagonal" or "circulant". The layers of "rows" are
            an array, :math:`W_1`, and gates (..., m); those of "columns" gates (..., n) and an
            array, :math:`W_N`; those of "diagonal" are arrays of the shape of W, and so are those
            of "circulant", but (l, l, k, ...) with l = min(m, n) for all layers of (m, n, k, ...)
            but the one on the long side.
        imbalance: lambda >= 0, in the units of a squared layer.
        form: "svd", as above, or "polar", where all layers but the one on the long side are
            functions of :math:`|W|`: :math:`W_1 = U S^{1/N} V^\top` and
            :math:`U S^{1/N} U^\top` for m <= n, so that they are continuous functions of W. All
            structures but "matrix" have this form.

    Returns:
        [W_1, ..., W_N], W_1 applied first, in the dtype of ``weight``; no two share memory. Half
        precision is computed in float32. Differentiable where the singular values of W are distinct
        and positive. Elsewhere the singular vectors are not determined, and the derivative is
        undefined: NaN, inf or any number.

    Raises:
        TypeError: if ``weight`` is complex, integer or sparse, or depth, imbalance or a width is
            not a number.
        ValueError: if ``depth`` is not a positive integer, if widths do not fit, if ``weight`` has
            too few dimensions or is not finite, or if another argument is none of those above.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1810.02281, Procedure 1; arXiv 2409.14623 (the imbalance, at two layers).

    >>> first, second = balanced_factors(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 2)
    >>> second @ first
    tensor([[4., 0.],
            [0., 9.]])
    >>> first @ first.T  # = W_2^T W_2: the singular values, to the power 2/N
    tensor([[9., 0.],
            [0., 4.]])
    >>> balanced_factors(torch.tensor([-9.0, 4.0]), 2, structure="diagonal")
    [tensor([-3.,  2.]), tensor([3., 2.])]
    >>> balanced_factors(torch.tensor([2.0, 0.0]), 2, structure="diagonal", imbalance=3.0)
    [tensor([1., 0.]), tensor([2.0000, 1.7321])]
    """
    kind = STRUCTURES[check_structure(structure)]
    check_real(weight)
    kind.check(weight.shape, "weight")
    check_finite(weight)
    depth, imbalance = check_integer_depth(depth), check_imbalance(imbalance)
    check_imbalance_held(imbalance, working_dtype(weight))
    if form not in get_args(Form):
        raise ValueError(f"form: expected 'svd' or 'polar' but got {form!r}")
    return kind.factors(weight, depth, imbalance, form, hidden_features)


def end_to_end_product(factors: Sequence[Tensor], *, structure: StructureName = "matrix") -> Tensor:
    r"""Multiply the layers of a linear network: :math:`W_N \cdots W_1`.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first, W_j (..., d_j, d_{j-1}), or the layers of
            another structure, shaped as :func:`balanced_factors` makes them.
        structure: "matrix", "rows", "columns", "diagonal" or "circulant".

    Returns:
        The end-to-end matrix (..., d_N, d_0), or the parameter of another structure.

    Raises:
        TypeError: if a factor is complex, integer or sparse.
        ValueError: if ``factors`` is empty, or a layer is not a matrix or does not fit the one
            before.

    >>> end_to_end_product([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])])
    tensor([[3., 6.],
            [4., 8.]])
    """
    kind = STRUCTURES[check_structure(structure)]
    kind.check_layers(factors)
    return kind.product(factors)


def partial_products(factors: Sequence[Tensor]) -> list[Tensor]:
    r"""Multiply the first j layers, :math:`W_j \cdots W_1` (..., d_j, d_0), for j = 1, ..., N."""
    return list(accumulate(factors, lambda product, factor: factor @ product))


def factor_gradients(
    factors: Sequence[Tensor], products: Sequence[Tensor], grad: Tensor
) -> list[Tensor]:
    r"""Chain rule: :math:`dl/dW_j = (W_N \cdots W_{j+1})^\top\, G\, (W_{j-1} \cdots W_1)^\top`.

    From the last layer to the first, by 2 (N - 1) products; ``products`` are partial_products.

    Returns:
        N gradients, shaped as the factors. Source: arXiv 1802.06509, equation 9.
    """
    gradients = []
    for j in range(len(factors) - 1, 0, -1):
        gradients.append(grad @ products[j - 1].mT)
        grad = factors[j].mT @ grad
    return [grad, *reversed(gradients)]


def balancedness(factors: Sequence[Tensor], *, structure: StructureName = "matrix") -> Tensor:
    r"""Measure how far each pair of adjacent layers is from balance.

    :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F` for j = 1, ..., N-1: all zero exactly where
    the factors are balanced, which gradient flow preserves. Layers of another structure count as
    the matrices of their blocks: block diagonal for rows and columns, diagonal, or circulant.
    Layers of an imbalance :math:`\lambda` have one defect of :math:`\lambda` times the root of the
    number of singular values, which gradient flow preserves too.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first.
        structure: "matrix", "rows", "columns", "diagonal" or "circulant".

    Returns:
        (..., N-1) defects, in the units of a squared weight, empty for one factor; (N-1,) where the
        structure is not "matrix". Half precision is computed in float32, since its rounding would
        look like imbalance. The gradient at balance is 0.

    Raises:
        TypeError: if a factor is complex, integer or sparse.
        ValueError: if ``factors`` is empty, or a layer is not a matrix or does not fit the one
            before.

    Source: arXiv 1810.02281, Definition 1.

    >>> balancedness([torch.eye(2), 2 * torch.eye(2)])  # ||4 I - I||_F = 3 sqrt(2)
    tensor([4.2426])
    """
    kind = STRUCTURES[check_structure(structure)]
    kind.check_layers(factors)
    return kind.defects(factors)


def relative_balancedness(factors: Sequence[Tensor]) -> Tensor:
    r"""Measure how far adjacent layers are from balance, relative to their size.

    :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F \,/\, (\|W_{j+1}\|_F^2 + \|W_j\|_F^2)` for
    j = 1, ..., N-1.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first.

    Returns:
        (..., N-1) numbers between 0 (balanced) and 1 (one of the two is zero); 0 where both are.

    Raises:
        TypeError: if a factor is complex, integer or sparse.
        ValueError: if ``factors`` is empty, or a layer is not a matrix or does not fit the one
            before.

    >>> relative_balancedness([torch.eye(2), 2 * torch.eye(2)])  # 3 sqrt(2) / (8 + 2)
    tensor([0.4243])
    """
    check_chain(factors)
    ratios = []
    for pair in pairwise(map(widened, factors)):
        unit = unit_of(*pair)
        before, after = (in_unit(factor, unit) for factor in pair)
        size = frobenius_norm(after).square() + frobenius_norm(before).square()
        ratios.append(defect(before, after) / torch.where(size > 0, size, 1.0))
    return stacked(ratios, factors)
