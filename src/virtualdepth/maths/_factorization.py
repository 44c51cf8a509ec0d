"""Factors of a matrix: balanced ones, their product and gradients, and their distance from balance.

Source: Arora, Cohen, Golowich, Hu, "A Convergence Analysis of Gradient Descent for Deep Linear
Neural Networks", ICLR 2019, arXiv 1810.02281, Definition 1 and Procedure 1.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise
from numbers import Real
from operator import index

import torch
from torch import Tensor
from torch.nn.functional import pad

from virtualdepth.maths._checks import check_finite, check_matrix, widened
from virtualdepth.maths._range import frobenius_norm, in_unit, out_of_unit, unit_of
from virtualdepth.maths._svd import thin_svd


def layer_sizes(
    in_features: int,
    out_features: int,
    depth: int,
    hidden_features: int | Sequence[int] | None = None,
) -> list[int]:
    """List the N + 1 widths of an N-layer linear network, from input to output.

    ``hidden_features`` is one width for all hidden layers, or N - 1 widths, none below min(m, n).

    Returns:
        in_features, the hidden widths, out_features.

    Raises:
        TypeError: if depth or a width is not an integer.
        ValueError: if depth is not a positive integer, or a width is too small, or their number is
            wrong.

    >>> layer_sizes(10, 6, 3)
    [10, 6, 6, 6]
    """
    depth = _integer_depth(depth)
    for name, width in (("in_features", in_features), ("out_features", out_features)):
        if _width(width, name) < 1:
            raise ValueError(f"{name}: expected a width >= 1 but got {width}")
    narrowest = min(in_features, out_features)
    if hidden_features is None:
        hidden_features = narrowest
    if not isinstance(hidden_features, Sequence):
        hidden_features = [hidden_features] * (depth - 1)
    hidden = [_width(width, "hidden_features") for width in hidden_features]
    if len(hidden) != depth - 1:
        raise ValueError(
            f"hidden_features: expected one width or {depth - 1} widths for depth {depth} but got "
            f"{len(hidden)}"
        )
    if any(width < narrowest for width in hidden):
        raise ValueError(
            "hidden_features: expected widths >= min(in_features, out_features) = "
            f"{narrowest}, else the product cannot reach every matrix, but got {hidden}"
        )
    return [in_features, *hidden, out_features]


def _width(width: int, name: str) -> int:
    """Return a width as an integer; refuse anything else by ``name``."""
    try:
        return index(width)
    except TypeError:
        raise TypeError(f"{name}: expected an integer width but got {width!r}") from None


def _integer_depth(depth: float) -> int:
    """Return an integer depth >= 1; refuse anything else."""
    expected = f"depth: expected an integer >= 1 for an explicit network but got {depth!r}"
    if isinstance(depth, bool) or not isinstance(depth, Real):
        raise TypeError(expected)
    if not depth >= 1 or depth % 1 != 0:
        raise ValueError(
            f"{expected}; real and infinite depth exist for one matrix only (EndToEndSGD)"
        )
    return int(depth)


def balanced_factors(
    weight: Tensor, depth: int, *, hidden_features: int | Sequence[int] | None = None
) -> list[Tensor]:
    r"""Factor W into N balanced layers with product W.

    With the thin SVD :math:`W = U S V^\top`, each padded by zeros to its layer's shape:
    :math:`W_N = U S^{1/N}`, :math:`W_{N-1} = \dots = W_2 = S^{1/N}`,
    :math:`W_1 = S^{1/N} V^\top`.

    Args:
        weight: W, (..., m, n), finite.
        depth: number of layers N, an integer >= 1.
        hidden_features: one hidden width or N - 1, from input to output, each >= min(m, n);
            default min(m, n).

    Returns:
        [W_1, ..., W_N], W_1 applied first, in the dtype of ``weight``; no two share memory. Half
        precision is computed in float32. Differentiable where the singular values of W are distinct
        and positive. Elsewhere the singular vectors are not determined, and the derivative is
        undefined: NaN, inf or any number.

    Raises:
        TypeError: if ``weight`` is complex, integer or sparse, or depth or a width is not a number.
        ValueError: if ``depth`` is not a positive integer, if widths do not fit, or if ``weight``
            has fewer than two dimensions or is not finite.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1810.02281, Procedure 1.

    >>> first, second = balanced_factors(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 2)
    >>> second @ first
    tensor([[4., 0.],
            [0., 9.]])
    >>> first @ first.T  # = W_2^T W_2: the singular values, to the power 2/N
    tensor([[9., 0.],
            [0., 4.]])
    """
    check_matrix(weight)
    check_finite(weight)
    sizes = layer_sizes(weight.shape[-1], weight.shape[-2], depth, hidden_features)
    depth = len(sizes) - 1
    if depth == 1:
        return [weight.clone()]
    unit = unit_of(widened(weight))
    u, sigma, vh = thin_svd(in_unit(widened(weight), unit))
    root = out_of_unit(sigma.pow(1 / depth), unit, 1 / depth)
    cores = [
        root.unsqueeze(-1) * vh,
        *[torch.diag_embed(root)] * (depth - 2),
        u * root.unsqueeze(-2),
    ]
    return [
        pad(core, (0, columns - core.shape[-1], 0, rows - core.shape[-2])).to(weight.dtype)
        for core, (columns, rows) in zip(cores, pairwise(sizes), strict=True)
    ]


def end_to_end_product(factors: Sequence[Tensor]) -> Tensor:
    r"""Multiply the layers of a linear network: :math:`W_N \cdots W_1`.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first, W_j (..., d_j, d_{j-1}).

    Returns:
        The end-to-end matrix (..., d_N, d_0).

    Raises:
        TypeError: if a factor is complex, integer or sparse.
        ValueError: if ``factors`` is empty, or a layer is not a matrix or does not fit the one
            before.

    >>> end_to_end_product([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])])
    tensor([[3., 6.],
            [4., 8.]])
    """
    _check_chain(factors)
    return reduce(lambda product, factor: factor @ product, factors)


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


def balancedness(factors: Sequence[Tensor]) -> Tensor:
    r"""Measure how far each pair of adjacent layers is from balance.

    :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F` for j = 1, ..., N-1: all zero exactly where
    the factors are balanced, which gradient flow preserves.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first.

    Returns:
        (..., N-1) defects, in the units of a squared weight; empty for one factor. Half precision
        is computed in float32, since its rounding would look like imbalance. The gradient at
        balance is 0.

    Raises:
        TypeError: if a factor is complex, integer or sparse.
        ValueError: if ``factors`` is empty, or a layer is not a matrix or does not fit the one
            before.

    Source: arXiv 1810.02281, Definition 1.

    >>> balancedness([torch.eye(2), 2 * torch.eye(2)])  # ||4 I - I||_F = 3 sqrt(2)
    tensor([4.2426])
    """
    _check_chain(factors)
    defects = []
    for pair in pairwise(map(widened, factors)):
        unit = unit_of(*pair)
        defect = _defect(*(in_unit(factor, unit) for factor in pair))
        defects.append(out_of_unit(defect, unit, 2.0))
    return _stacked(defects, factors)


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
    _check_chain(factors)
    ratios = []
    for pair in pairwise(map(widened, factors)):
        unit = unit_of(*pair)
        before, after = (in_unit(factor, unit) for factor in pair)
        size = frobenius_norm(after).square() + frobenius_norm(before).square()
        ratios.append(_defect(before, after) / torch.where(size > 0, size, 1.0))
    return _stacked(ratios, factors)


def _defect(before: Tensor, after: Tensor) -> Tensor:
    """Compute ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F, (...)."""
    # under autocast the products would silently be taken in half precision
    with torch.autocast(before.device.type, enabled=False):
        return frobenius_norm(after.mT @ after - before @ before.mT)


def _stacked(values: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """Stack one value, (...), for each pair of adjacent layers; (..., 0) for one layer."""
    if not values:
        return widened(factors[0].new_empty(*factors[0].shape[:-2], 0))
    return torch.stack(tuple(values), dim=-1)


def _check_chain(factors: Sequence[Tensor]) -> None:
    """Refuse factors that are not matrices, or that cannot be multiplied in their order."""
    if len(factors) == 0:
        raise ValueError("factors: expected at least one matrix but got none")
    for number, factor in enumerate(factors, start=1):
        check_matrix(factor, f"factors, W_{number}")
    for number, (before, after) in enumerate(pairwise(factors), start=1):
        if after.shape[-1] != before.shape[-2]:
            raise ValueError(
                f"factors: expected W_{number + 1} with as many columns as W_{number} has rows, "
                f"{before.shape[-2]}, but got {tuple(after.shape)} after {tuple(before.shape)}; "
                "W_1, the layer applied first, comes first"
            )
