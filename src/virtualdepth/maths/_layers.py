"""The gradient of an explicit linear network's layers, from the gradient of its product."""

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor


def partial_products(factors: Sequence[Tensor]) -> list[Tensor]:
    r"""Multiply the first j layers, for every j: :math:`W_j \cdots W_1`.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first, W_j (..., d_j, d_{j-1}).

    Returns:
        N products (..., d_j, d_0); the last is the end-to-end matrix.

    >>> import torch
    >>> partial_products([torch.tensor([[2.0]]), torch.tensor([[5.0]])])
    [tensor([[2.]]), tensor([[10.]])]
    """
    return list(accumulate(factors, lambda product, factor: factor @ product))


def factor_gradients(
    factors: Sequence[Tensor], products: Sequence[Tensor], grad: Tensor
) -> list[Tensor]:
    r"""Chain rule: :math:`dl/dW_j = (W_N \cdots W_{j+1})^\top\, G\, (W_{j-1} \cdots W_1)^\top`.

    From the last layer to the first, by 2 (N - 1) matrix products and no decomposition.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first.
        products: of :func:`partial_products`.
        grad: G = dl/dW of the end-to-end matrix.

    Returns:
        N gradients, shaped as the factors.

    Source: arXiv 1802.06509, equation 9.

    >>> import torch
    >>> two = [torch.tensor([[2.0]]), torch.tensor([[5.0]])]
    >>> factor_gradients(two, partial_products(two), torch.tensor([[1.0]]))
    [tensor([[5.]]), tensor([[2.]])]
    """
    gradients = []
    for j in range(len(factors) - 1, 0, -1):
        gradients.append(grad @ products[j - 1].mT)
        grad = factors[j].mT @ grad
    return [grad, *reversed(gradients)]
