"""Matrix products that cost less than a general one."""

import torch
from torch import Tensor

# below this size the copies of the mirrored panels cost more than they save
_PANELS, _SMALLEST = 4, 384


def gram(matrix: Tensor) -> Tensor:
    """Multiply M M^T, (..., k, k), by five eighths of a product, since it is symmetric."""
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


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add left right, (..., k, l) and (..., l, n), to ``total``, (..., k, n), in place."""
    if left.ndim == 2:
        return total.addmm_(left, right)
    return total.add_(left @ right)


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiply matrices (..., k, n) by one vector (n,), or by one for each matrix, (..., n)."""
    if matrix.ndim == 2:
        return torch.mv(matrix, vector)
    return (matrix @ vector.expand(*matrix.shape[:-2], -1).unsqueeze(-1)).squeeze(-1)
