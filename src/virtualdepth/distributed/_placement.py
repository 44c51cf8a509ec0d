"""Where the parts of a parameter lie: the only module that knows torch's DTensor."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed._plan import ShardedMatrix


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without loading torch.distributed.tensor."""
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Any) -> Tensor:
    """Return this process's part, which may be empty; a plain tensor is its own part."""
    part: Tensor = tensor.to_local() if is_distributed(tensor) else tensor
    return part


def full_tensor(tensor: Any) -> Tensor:
    """Fetch all parts of a DTensor: a collective that every process of the mesh must call."""
    full: Tensor = tensor.full_tensor()
    return full


def shard_like(full: Tensor, like: Any) -> Tensor:
    """Cut this process's part out of a tensor that all processes have, without communication."""
    from torch.distributed.tensor import DTensor, Replicate

    copies = [Replicate()] * like.device_mesh.ndim
    replicated = DTensor.from_local(full.contiguous(), like.device_mesh, copies, run_check=False)
    return local_part(replicated.redistribute(placements=like.placements))


def dtensor_like(part: Tensor, like: Any, shape: Sequence[int] | None = None) -> Tensor:
    """Make a DTensor placed like another one, and of its shape unless told, from a local part."""
    from torch.distributed.tensor import DTensor

    # without shape and stride, parts of uneven size would silently give a wrong shape
    whole = like if shape is None else torch.empty(shape, device="meta")
    return DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=whole.shape,
        stride=whole.stride(),
    )


def process_groups(tensor: Any) -> list[Any]:
    """List the process groups of a DTensor's mesh that this process is in, one a dimension."""
    return list(tensor.device_mesh.get_all_groups())


def shard_groups(tensor: Any) -> list[Any]:
    """List the process groups whose processes hold different parts of a DTensor."""
    dims = _cut_dims(tensor)
    return [
        group for group, dim in zip(process_groups(tensor), dims, strict=True) if dim is not None
    ]


def cut_dims(tensor: Any) -> set[int]:
    """Find the tensor dimensions along which different processes hold different parts."""
    return {dim for dim in _cut_dims(tensor) if dim is not None}


def shard_sizes(tensor: Any) -> tuple[int, list[int]]:
    """Return the one dimension that is cut, and the parts' sizes in it, by rank in the group."""
    (dim,) = (dim for dim in _cut_dims(tensor) if dim is not None)
    (group,) = shard_groups(tensor)
    length, processes = tensor.shape[dim], group.size()
    most = math.ceil(length / processes)  # as torch.chunk cuts
    return dim, [max(0, min(most, length - rank * most)) for rank in range(processes)]


def sharded_matrix(name: str, parameter: Any, count: int, transposed: bool) -> ShardedMatrix:
    """Read what all processes know about a parameter that holds ``count`` matrices."""
    if any(placement.is_partial() for placement in parameter.placements):
        raise TypeError(
            f"{name}: expected placements Shard or Replicate at depth > 1 but got "
            f"{parameter.placements}, whose parts are summands; give its group depth=1, or call "
            "redistribute() on it before the optimizer is made"
        )
    dims = _cut_dims(parameter)
    length = parameter.shape[0] if parameter.ndim else 1
    rows, columns = length // count, parameter.numel() // length
    sides = {int((dim == 0) == transposed) for dim in dims if dim is not None}
    return ShardedMatrix(
        (columns, rows) if transposed else (rows, columns),
        count,
        parameter.dtype.itemsize,
        tuple(group.size() for group in shard_groups(parameter)),
        sides.pop() if len(sides) == 1 else None,
    )


def is_flattened(parameter: Tensor) -> bool:
    """Tell whether FullyShardedDataParallel has made a parameter part of a flat vector."""
    return getattr(parameter, "_fsdp_flattened", False)


def check_not_flattened(name: str, parameter: Tensor) -> None:
    """Refuse a parameter that FullyShardedDataParallel has flattened, whatever its shape is now."""
    if is_flattened(parameter):
        raise TypeError(
            f"{name}: expected a matrix at depth > 1 but got a piece of the flat vector that "
            "FullyShardedDataParallel makes of parameters, where rows and columns are lost; shard "
            "with torch.distributed.fsdp.fully_shard instead, or give its group depth=1"
        )


def check_gradient_placed(name: str, parameter: Any) -> None:
    """Refuse a gradient whose parts are not those of its parameter."""
    grad = parameter.grad
    if grad is None:
        return
    expected, found = _place(parameter), _place(grad)
    if found != expected:
        raise ValueError(
            f"{name}: expected a gradient placed like its parameter, {expected}, but got {found}; "
            "redistribute it"
        )


def _place(tensor: Any) -> tuple[Any, ...]:
    """Describe which processes hold what of a tensor; a plain tensor is described by its class."""
    if not is_distributed(tensor):
        return (type(tensor).__name__,)
    return tuple(tensor.placements), tensor.device_mesh


def _cut_dims(tensor: Any) -> list[int | None]:
    """List the tensor dimension that each mesh dimension cuts, None where it cuts none."""
    # The order of the pieces does not matter here. So any placement that cuts along a dimension
    # will do, also the interleaved one of fully_shard over tensor parallel.
    dims = [getattr(placement, "dim", None) for placement in tensor.placements]
    return [
        None if dim is None or tensor.device_mesh.size(index) == 1 else dim % tensor.ndim
        for index, dim in enumerate(dims)
    ]
