"""Functions of large arrays, a piece at a time: what they make in between stays in the cache."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from virtualdepth.maths._checks import HOST

# bytes in a piece of one array: fewer cost more in calls, more do not fit
_PIECE = 2**19


def pieces(*arrays: Tensor, dim: int = 0) -> list[Sequence[Tensor]]:
    """Cut a large array, and others as long along ``dim``, there; on a device not at all."""
    first = arrays[0]
    count = -(-first.nbytes // _PIECE)
    if count <= 1 or first.device.type != HOST:
        return [arrays]
    length = -(-first.shape[dim] // count)
    return [*zip(*(torch.split(array, length, dim) for array in arrays), strict=True)]


def by_pieces(function: Callable[..., Tensor], *arrays: Tensor, dim: int = 0) -> Tensor:
    """Apply a function that acts on each slice along ``dim`` by itself to arrays as long there.

    Returns:
        What it returns, of the shape and dtype of the first array.

    >>> by_pieces(torch.mul, torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 3.])
    """
    first, cut = arrays[0], pieces(*arrays, dim=dim)
    # a derivative would not pass what is written into the result
    derived = torch.is_grad_enabled() and any(array.requires_grad for array in arrays)
    if len(cut) == 1 or derived:
        return function(*arrays)
    # torch.cat would keep all pieces beside the result
    result = torch.empty_like(first, memory_format=torch.contiguous_format)
    for part, each in zip(pieces(result, dim=dim), cut, strict=True):
        part[0].copy_(function(*each))
    return result
