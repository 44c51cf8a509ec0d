"""Where the parts of a parameter lie; the only file that knows torch's DTensor."""

import math
from typing import Any

from torch import Tensor

from virtualdepth.distributed._plan import ShardedMatrix


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without loading torch.distributed.tensor.

    Args:
        tensor: any.

    Returns:
        Whether it has parts, or copies, on the processes of a mesh.
    """
    return hasattr(tensor, "device_mesh")


def local_part(tensor: Any) -> Tensor:
    """Return this process's part, which may be empty.

    Args:
        tensor: any; one that is no DTensor is its own part.

    Returns:
        A plain tensor that shares its memory.
    """
    part: Tensor = tensor.to_local() if is_distributed(tensor) else tensor
    return part


def full_tensor(tensor: Any) -> Tensor:
    """Fetch all parts: a collective, which every process of the mesh has to call.

    Args:
        tensor: a DTensor.

    Returns:
        The plain tensor.
    """
    everything: Tensor = tensor.full_tensor()
    return everything


def shard_like(everything: Tensor, like: Any) -> Tensor:
    """Cut out what this process holds, without communication.

    Args:
        everything: the same on all processes, of the shape of ``like``.
        like: a DTensor.

    Returns:
        This process's part.
    """
    from torch.distributed.tensor import DTensor, Replicate

    copies = [Replicate()] * like.device_mesh.ndim
    replicated = DTensor.from_local(
        everything.contiguous(), like.device_mesh, copies, run_check=False
    )
    return local_part(replicated.redistribute(placements=like.placements))


def dtensor_like(part: Tensor, like: Any) -> Tensor:
    """Undo :func:`local_part`.

    Args:
        part: shaped as the local part of ``like``.
        like: a DTensor, which gives shape and placements.

    Returns:
        A DTensor.
    """
    from torch.distributed.tensor import DTensor

    # without shape and stride parts of uneven size would silently give a wrong shape
    return DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def process_groups(tensor: Any) -> list[Any]:
    """List the process groups of a DTensor's mesh that this process is in.

    Args:
        tensor: a DTensor.

    Returns:
        One for each dimension of the mesh.
    """
    return list(tensor.device_mesh.get_all_groups())


def shard_groups(tensor: Any) -> list[Any]:
    """List the process groups whose processes hold different parts.

    Args:
        tensor: a DTensor.

    Returns:
        One for each dimension of the mesh that cuts the tensor.
    """
    dims = _cut_dims(tensor)
    return [
        group for group, dim in zip(process_groups(tensor), dims, strict=True) if dim is not None
    ]


def shard_sizes(tensor: Any) -> tuple[int, list[int]]:
    """Tell how a tensor is cut that only one dimension of its mesh cuts.

    Args:
        tensor: a DTensor.

    Returns:
        The tensor's dimension that is cut, and the parts' sizes in it, by rank in the group.
    """
    (dim,) = (dim for dim in _cut_dims(tensor) if dim is not None)
    (group,) = shard_groups(tensor)
    length, processes = tensor.shape[dim], group.size()
    most = math.ceil(length / processes)  # as torch.chunk cuts
    return dim, [max(0, min(most, length - rank * most)) for rank in range(processes)]


def sharded_matrix(name: str, parameter: Any, count: int, transposed: bool) -> ShardedMatrix:
    """Read what all processes know about a parameter that lies on several of them.

    Args:
        name: for the message.
        parameter: a DTensor of two dimensions or more.
        count: how many matrices it is.
        transposed: whether it holds their transposes.

    Returns:
        What a plan is made from.

    Raises:
        TypeError: if a process holds neither some of it nor all of it, but a summand.
    """
    if any(placement.is_partial() for placement in parameter.placements):
        raise TypeError(
            f"{name}: expected placements Shard or Replicate at depth > 1 but got "
            f"{parameter.placements}, whose parts are summands; give its group depth=1, or call "
            "redistribute() on it before the optimizer is made"
        )
    dims = _cut_dims(parameter)
    rows, columns = parameter.shape[0] // count, parameter.numel() // parameter.shape[0]
    sides = {int((dim == 0) == transposed) for dim in dims if dim is not None}
    return ShardedMatrix(
        (columns, rows) if transposed else (rows, columns),
        count,
        parameter.dtype.itemsize,
        tuple(group.size() for group in shard_groups(parameter)),
        sides.pop() if len(sides) == 1 else None,
    )


def is_flattened(parameter: Tensor) -> bool:
    """Tell whether FullyShardedDataParallel has made a parameter part of a flat vector.

    Args:
        parameter: any.

    Returns:
        Whether it is, or was taken from, such a vector.
    """
    return getattr(parameter, "_fsdp_flattened", False)


def check_not_flattened(name: str, parameter: Tensor) -> None:
    """Refuse what FullyShardedDataParallel has flattened, whatever its shape is now.

    Args:
        name: for the message.
        parameter: any.

    Raises:
        TypeError: if it is, or was taken from, one of that class's flat vectors.
    """
    if is_flattened(parameter):
        raise TypeError(
            f"{name}: expected a matrix at depth > 1 but got a piece of the flat vector that "
            "FullyShardedDataParallel makes of parameters, where rows and columns are lost; shard "
            "with torch.distributed.fsdp.fully_shard instead, or give its group depth=1"
        )


def check_gradient_placed(name: str, parameter: Any) -> None:
    """Refuse a gradient whose parts are not those of its parameter.

    Args:
        name: for the message.
        parameter: a DTensor, with or without a gradient.

    Raises:
        ValueError: if its gradient lies differently.
    """
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
    """Which processes have what of a tensor; of one that is no DTensor, its class."""
    if not is_distributed(tensor):
        return (type(tensor).__name__,)
    return tuple(tensor.placements), tensor.device_mesh


def _cut_dims(tensor: Any) -> list[int | None]:
    """The tensor's dimension that each dimension of the mesh cuts, None where it does not."""
    # the order of the pieces does not matter here, so any way that torch cuts along a dimension
    # will do, also the interleaved one of fully_shard over tensor parallel
    dims = [getattr(placement, "dim", None) for placement in tensor.placements]
    return [
        None if dim is None or tensor.device_mesh.size(index) == 1 else dim % tensor.ndim
        for index, dim in enumerate(dims)
    ]
