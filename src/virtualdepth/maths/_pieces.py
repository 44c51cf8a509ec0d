"""Functions of long arrays, a piece at a time: what they make in between stays in the cache."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from virtualdepth.maths._checks import HOST

# bytes in a piece of one array: fewer cost more in calls, more do not fit
_PIECE = 2**19


def pieces(*arrays: Tensor) -> list[Sequence[Tensor]]:
    """Cut long arrays, (k, ...), along the first dimension; on a device not at all."""
    count = -(-arrays[0].nbytes // _PIECE)
    if count <= 1 or arrays[0].device.type != HOST:
        return [arrays]
    length = -(-len(arrays[0]) // count)
    return [*zip(*(torch.split(array, length) for array in arrays), strict=True)]


def by_pieces(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Apply a function that acts entry by entry to arrays of one shape, (k, ...).

    Returns:
        What it returns, (k, ...), of the dtype of the first array.

    >>> by_pieces(torch.mul, torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 3.])
    """
    cut = pieces(*arrays)
    # a derivative would not pass what is written into the result
    derived = torch.is_grad_enabled() and any(array.requires_grad for array in arrays)
    if len(cut) == 1 or derived:
        return function(*arrays)
    # torch.cat would keep all pieces beside the result
    result = torch.empty_like(arrays[0])
    for (part,), each in zip(pieces(result), cut, strict=True):
        part.copy_(function(*each))
    return result
