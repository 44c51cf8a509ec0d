"""Which parameters depth acts on, what a message calls them, and what depth cannot act on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from virtualdepth.optim.options import check_depth_options


def matrices(group: dict[str, Any], number: int) -> Iterator[tuple[str, Tensor]]:
    """Name the parameters of a group that depth acts on.

    Args:
        group: a parameter group; its depth may have changed since it was added.
        number: the group's place in the optimizer.

    Yields:
        (name, parameter) of those of two or more dimensions that are not empty; none at depth 1.

    Raises:
        TypeError: if one of them, or its gradient, is complex, sparse or sharded.
        ValueError: if the depth, or an option that goes with it, is out of range.
    """
    check_depth_options(group)
    if group["depth"] == 1:
        return
    for index, parameter in enumerate(group["params"]):
        if parameter.ndim < 2 or parameter.numel() == 0:
            continue
        if "param_names" in group:
            name = str(group["param_names"][index])
        else:
            name = f"parameter {index} of group {number}, shape {tuple(parameter.shape)}"
        _check_dense(name, "parameter", parameter)
        if parameter.grad is not None:
            _check_dense(name, "gradient", parameter.grad)
        yield name, parameter


def _check_dense(name: str, what: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a dense real {what} at depth > 1 but got {tensor.dtype}, "
            f"{tensor.layout}; give its group depth=1"
        )
    if hasattr(tensor, "device_mesh"):
        raise TypeError(
            f"{name}: expected a {what} that lies whole on one device at depth > 1 but got "
            f"{type(tensor).__name__}; give its group depth=1"
        )
