"""Where the parts of a parameter lie; the only file that knows torch's DTensor."""

from typing import Any

from torch import Tensor

from virtualdepth.distributed.plan import ShardedMatrix


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without loading torch.distributed.tensor.

    Args:
        tensor: any.

    Returns:
        Whether it has parts, or copies, on the processes of a mesh.
    """
    return hasattr(tensor, "device_mesh")


def mesh_of(tensor: Any) -> Any:
    """Return the mesh of a DTensor.

    Args:
        tensor: a DTensor.

    Returns:
        Its torch.distributed.device_mesh.DeviceMesh.
    """
    return tensor.device_mesh


def local_part(tensor: Any) -> Tensor:
    """Return this process's part, which may be empty.

    Args:
        tensor: a DTensor.

    Returns:
        A plain tensor that shares its memory.
    """
    part: Tensor = tensor.to_local()
    return part


def whole(tensor: Any) -> Tensor:
    """Fetch all parts: a collective, which every process of the mesh has to call.

    Args:
        tensor: a DTensor.

    Returns:
        The plain tensor.
    """
    everything: Tensor = tensor.full_tensor()
    return everything


def own_part(everything: Tensor, like: Any) -> Tensor:
    """Cut out what this process holds, without communication.

    Args:
        everything: the same on all processes, of the shape of ``like``.
        like: a DTensor.

    Returns:
        This process's part.
    """
    from torch.distributed.tensor import DTensor, Replicate

    copies = [Replicate()] * like.device_mesh.ndim
    replicated = DTensor.from_local(everything, like.device_mesh, copies, run_check=False)
    return local_part(replicated.redistribute(placements=like.placements))


def placed(part: Tensor, like: Any) -> Tensor:
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
        TypeError: if its mesh has several dimensions, or a placement is not Shard or Replicate.
    """
    from torch.distributed.tensor import Replicate, Shard

    if parameter.device_mesh.ndim != 1:
        raise TypeError(
            f"{name}: expected a mesh of one dimension at depth > 1 but got "
            f"{parameter.device_mesh}; give its group depth=1, or shard over one dimension"
        )
    (placement,) = parameter.placements
    if type(placement) not in {Shard, Replicate}:  # subclasses order the parts in their own way
        raise TypeError(
            f"{name}: expected placement Shard or Replicate at depth > 1 but got {placement}; "
            "give its group depth=1, or redistribute it"
        )
    rows, columns = parameter.shape[0] // count, parameter.numel() // parameter.shape[0]
    side = None
    if type(placement) is Shard:
        by_rows = placement.dim % parameter.ndim == 0
        side = 0 if by_rows != transposed else 1
    return ShardedMatrix(
        (columns, rows) if transposed else (rows, columns),
        count,
        parameter.dtype.itemsize,
        parameter.device_mesh.size(),
        side,
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
    if grad is not None and (not is_distributed(grad) or grad.placements != parameter.placements):
        raise ValueError(
            f"{name}: expected a gradient placed like its parameter, {parameter.placements}, but "
            f"got {getattr(grad, 'placements', type(grad).__name__)}; redistribute it"
        )
