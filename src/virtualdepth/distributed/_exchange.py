"""Bring cut matrices together at their owners, and send the parts back.

Each direction is one collective for any number of matrices. It sends bytes, not numbers, so that
matrices of several dtypes share it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Size, Tensor


class Owned(NamedTuple):
    """A tensor whose parts meet at one process.

    Attributes:
        owner: rank of that process in the group.
        shape: of the whole tensor.
        dtype: of its numbers.
        dim: the dimension that is cut.
        sizes: of the parts in this dimension, by rank in the group.
    """

    owner: int
    shape: Size
    dtype: torch.dtype
    dim: int
    sizes: list[int]

    def part_shape(self, rank: int) -> Size:
        """Return the shape of the part of one process, by its rank in the group."""
        return Size([*self.shape[: self.dim], self.sizes[rank], *self.shape[self.dim + 1 :]])


def to_owners(tensors: Sequence[Owned], parts: Sequence[Tensor], group: Any) -> dict[int, Tensor]:
    """Bring the parts of each tensor together at its owner: index of the tensor -> whole."""
    processes, own = range(group.size()), _owned_by(group.rank(), tensors)
    received = _exchange(
        [[parts[place] for place in _owned_by(owner, tensors)] for owner in processes],
        [[(tensors[place].part_shape(sender), tensors[place].dtype) for place in own]
         for sender in processes],
        group,
        parts[0].device,
    )  # fmt: skip
    return {
        place: torch.cat(pieces, tensors[place].dim)
        for place, pieces in zip(own, zip(*received, strict=True), strict=True)
    }


def from_owners(
    tensors: Sequence[Owned], wholes: Mapping[int, Tensor], group: Any, device: torch.device
) -> list[Tensor]:
    """Send every process its part of each tensor; ``wholes`` is what :func:`to_owners` returned."""
    processes, rank = range(group.size()), group.rank()
    cut_up = [
        torch.split(
            wholes[place].to(tensors[place].dtype), tensors[place].sizes, tensors[place].dim
        )
        for place in _owned_by(rank, tensors)
    ]
    places = [_owned_by(owner, tensors) for owner in processes]
    received = _exchange(
        [[pieces[receiver] for pieces in cut_up] for receiver in processes],
        [[(tensors[place].part_shape(rank), tensors[place].dtype) for place in each]
         for each in places],
        group,
        device,
    )  # fmt: skip
    found = {
        place: part
        for each, parts in zip(places, received, strict=True)
        for place, part in zip(each, parts, strict=True)
    }
    return [found[place] for place in range(len(tensors))]


def _owned_by(rank: int, tensors: Sequence[Owned]) -> list[int]:
    """List the indices of the tensors that a process owns."""
    return [place for place, tensor in enumerate(tensors) if tensor.owner == rank]


def _exchange(
    outgoing: Sequence[Sequence[Tensor]],
    expected: Sequence[Sequence[tuple[Size, torch.dtype]]],
    group: Any,
    device: torch.device,
) -> list[list[Tensor]]:
    """Send tensors to each process, and receive those of known shapes from each."""
    packed = [_packed(tensors, device) for tensors in outgoing]
    lengths = [
        sum(shape.numel() * dtype.itemsize for shape, dtype in tensors) for tensors in expected
    ]
    received = torch.empty(sum(lengths), dtype=torch.uint8, device=device)
    dist.all_to_all_single(
        received, torch.cat(packed), lengths, [len(each) for each in packed], group=group
    )
    return [
        _unpacked(piece, tensors)
        for piece, tensors in zip(torch.split(received, lengths), expected, strict=True)
    ]


def _packed(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Join tensors into one vector of bytes."""
    nothing = torch.empty(0, dtype=torch.uint8, device=device)
    return torch.cat([nothing, *map(_bytes, tensors)])


def _bytes(tensor: Tensor) -> Tensor:
    """View a tensor as a vector of bytes."""
    # flatten() leaves a stride in a single row or column, which cannot be viewed as bytes
    return tensor.contiguous().as_strided([tensor.numel()], [1]).view(torch.uint8)


def _unpacked(packed: Tensor, expected: Sequence[tuple[Size, torch.dtype]]) -> list[Tensor]:
    """Split a vector of bytes into tensors of known shapes and dtypes."""
    lengths = [shape.numel() * dtype.itemsize for shape, dtype in expected]
    # copies: within the bytes, wider numbers may not be aligned
    return [
        piece.clone().view(dtype).view(shape)
        for piece, (shape, dtype) in zip(torch.split(packed, lengths), expected, strict=True)
    ]
