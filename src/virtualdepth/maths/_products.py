"""Matrix products that do less than a general one."""

import torch
from torch import Tensor

# below, the copies of the mirrored panels cost more than they save
_PANELS, _SMALLEST = 4, 384


def gram(matrix: Tensor) -> Tensor:
    r"""Multiply :math:`M M^\top`, which is symmetric, by five eighths of a product.

    Args:
        matrix: M, (..., k, n).

    Returns:
        (..., k, k), a new tensor.

    >>> gram(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([[5., 6.],
            [6., 9.]])
    """
    size = matrix.shape[-2]
    if size < _SMALLEST:
        return matrix @ matrix.mT
    product = matrix.new_empty((*matrix.shape[:-1], size))
    panel = -(-size // _PANELS)
    for low in range(0, size, panel):
        here, below = slice(low, low + panel), slice(low + panel, size)
        product[..., here, low:] = matrix[..., here, :] @ matrix[..., low:, :].mT
        product[..., below, here] = product[..., here, below].mT
    return product


def times(left: Tensor, right: Tensor, *, plus: Tensor) -> Tensor:
    """Multiply two matrices and add a third, which may be overwritten.

    Args:
        left: (..., k, l).
        right: (..., l, n).
        plus: (..., k, n).

    Returns:
        (..., k, n).

    >>> times(torch.eye(1), torch.eye(1), plus=torch.ones(1, 1))
    tensor([[2.]])
    """
    if left.ndim == 2:
        return plus.addmm_(left, right)
    return plus.add_(left @ right)


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiply a matrix, or each of a batch, by a vector.

    Args:
        matrix: (..., k, n).
        vector: (n,), or one of each matrix, (..., n).

    Returns:
        (..., k).

    >>> matvec(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.ones(2))
    tensor([3., 3.])
    """
    if matrix.ndim == 2:
        return torch.mv(matrix, vector)
    return (matrix @ vector.expand(*matrix.shape[:-2], -1).unsqueeze(-1)).squeeze(-1)
