"""How a parameter is seen as one matrix or as a batch of matrices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from virtualdepth.distributed import check_not_flattened, is_distributed
from virtualdepth.optim._options import check_depth_options


@dataclass(frozen=True)
class MatrixView:
    """A parameter [shape[0], ...] as ``count`` matrices [shape[0] / count, rest].

    The rest is flattened: a convolution kernel is [out, in * height * width]. A grouped convolution
    is one matrix a group; packed weights, as the three of attention or the four of an LSTM's gates,
    are one matrix a block. A transposed convolution holds its matrix transposed.

    Attributes:
        count: number of matrices.
        transposed: whether each is stored as its transpose.
    """

    count: int = 1
    transposed: bool = False

    @classmethod
    def of(cls, group: Mapping[str, Any], index: int) -> "MatrixView | None":
        """Read how a group sees one of its parameters.

        Args:
            group: with or without "conv_groups", "blocks" and "transposed", as
                :func:`virtualdepth.param_groups` writes them for all of the group, or
                "matrix_counts", as :func:`virtualdepth.with_depth` writes them one by one.
            index: the parameter's place in the group.

        Returns:
            The view; None if the parameter moves plainly.
        """
        parameter = group["params"][index]
        counts = group.get("matrix_counts")
        if group.get("depth", 1) == 1 or parameter.ndim < 2 or parameter.numel() == 0:
            return None
        if counts is not None:
            return cls(counts[index]) if counts[index] else None
        count = group.get("conv_groups", 1) * group.get("blocks", 1)
        return cls(count, group.get("transposed", False))

    def split(self, tensor: Tensor) -> Tensor:
        """View the parameter, or its gradient, as matrices.

        Args:
            tensor: of two dimensions or more.

        Returns:
            (m, n), or (count, m, n) for several matrices.

        >>> MatrixView(count=2).split(torch.zeros(6, 4, 3, 3)).shape
        torch.Size([2, 3, 36])
        """
        matrices = tensor.flatten(1)
        if self.count > 1:
            matrices = matrices.reshape(self.count, -1, matrices.shape[-1])
        return matrices.mT if self.transposed else matrices

    def join(self, matrices: Tensor, like: Tensor) -> Tensor:
        """Undo :meth:`split`.

        Args:
            matrices: as split.
            like: gives the shape.

        Returns:
            A tensor of the parameter's shape.
        """
        return (matrices.mT if self.transposed else matrices).reshape(like.shape)


def check_matrix(
    name: str, parameter: Tensor, view: MatrixView, *, distributed: bool = False
) -> None:
    """Refuse a parameter that depth cannot act on.

    Args:
        name: for the message.
        parameter: of two dimensions or more; its gradient, if any, is checked too.
        view: the group's.
        distributed: whether it may lie on several processes.

    Raises:
        TypeError: if it or its gradient is complex or sparse, or sharded where it may not be.
        ValueError: if its rows do not divide into the view's matrices.
    """
    for what, tensor in (("parameter", parameter), ("gradient", parameter.grad)):
        if tensor is None:
            continue
        if tensor.layout is not torch.strided or not tensor.is_floating_point():
            raise TypeError(
                f"{name}: expected a dense real {what} at depth > 1 but got {tensor.dtype}, "
                f"{tensor.layout}; give its group depth=1"
            )
        if what == "parameter" and _overlaps(tensor):
            raise TypeError(
                f"{name}: expected a parameter of distinct entries but got an expanded one, "
                f"strides {tensor.stride()}, which cannot be written to; pass its .clone()"
            )
        if is_distributed(tensor) and not distributed:
            raise TypeError(
                f"{name}: expected a {what} that lies whole on one device at depth > 1 but got "
                f"{type(tensor).__name__}; use EndToEndSGD, or give its group depth=1"
            )
    if parameter.shape[0] % view.count != 0:
        raise ValueError(
            f"{name}: expected rows that divide into {view.count} matrices (conv_groups * blocks) "
            f"but got shape {tuple(parameter.shape)}"
        )


def _overlaps(tensor: Tensor) -> bool:
    return any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )


def matrices(
    group: Mapping[str, Any], number: int, *, distributed: bool = False
) -> Iterator[tuple[str, Tensor, MatrixView]]:
    """Name the parameters of a group that depth acts on.

    Args:
        group: a parameter group; its depth may have changed since it was added.
        number: the group's place in the optimizer.
        distributed: whether parameters may lie on several processes.

    Yields:
        (name, parameter, view) of those that do not move plainly.

    Raises:
        TypeError: if one of them, or its gradient, is complex or sparse, or sharded where it may
            not be, or flattened by FullyShardedDataParallel.
        ValueError: if the depth, or an option that goes with it, is out of range, or a parameter
            does not divide into its matrices.
    """
    check_depth_options(group)
    for index, parameter in enumerate(group["params"]):
        view, name = MatrixView.of(group, index), parameter_name(group, number, index)
        if group["depth"] != 1:
            check_not_flattened(name, parameter)
        if view is not None:
            check_matrix(name, parameter, view, distributed=distributed)
            yield name, parameter, view


def parameter_name(group: Mapping[str, Any], number: int, index: int) -> str:
    """Name a parameter as a user would find it.

    Args:
        group: a parameter group.
        number: the group's place in the optimizer.
        index: the parameter's place in the group.

    Returns:
        Its own name where the optimizer was given named parameters, else its place and shape.
    """
    if "param_names" in group:
        return str(group["param_names"][index])
    return f"parameter {index} of group {number}, shape {tuple(group['params'][index].shape)}"
