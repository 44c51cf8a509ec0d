"""dl/dW of the matrices that a callback watches, and the options their optimizer steps with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from virtualdepth.lightning_common.callbacks.targets import Target


class EndToEndGradient:
    """Collects the gradient of the loss by one target's matrix, W.

    Of a single layer it is the weight's own ``grad``. Of a product it comes from hooks on the
    output y = W x, as the sum over samples of (dl/dy) x^T, over every backward pass since the last
    :meth:`take`: one m x n x samples product.

    Args:
        target: whose.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.wanted = False
        self._sum: Tensor | None = None
        self._hook = target.module.register_forward_hook(self._watch) if target.is_product else None

    def _watch(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self.wanted and output.requires_grad:
            inputs = args[0].detach()
            # torch declares no types for it
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: self._add(inputs, grad)
            )

    def _add(self, inputs: Tensor, grad: Tensor) -> None:
        dtype = torch.promote_types(grad.dtype, torch.float32)
        rows, columns = grad.shape[-1], inputs.shape[-1]
        found = grad.to(dtype).reshape(-1, rows).mT @ inputs.to(dtype).reshape(-1, columns)
        self._sum = found if self._sum is None else self._sum + found

    def take(self) -> Tensor:
        """Return the gradient of this step, and forget it.

        Returns:
            G, (m, n), at least in float32: of this process's samples for a product, of all for a
            single layer, whose gradients the processes have averaged before.

        Raises:
            RuntimeError: if the loss of this step does not depend on the matrix.
        """
        if self._hook is None:
            grad = self.target.weights[0].grad
            found = None if grad is None else grad.detach().flatten(1)
        else:
            found, self._sum = self._sum, None
        if found is None:
            raise RuntimeError(
                f"{self.target.name}: expected a gradient at each optimizer step but got none; "
                "does the loss depend on this layer?"
            )
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def remove(self) -> None:
        """Take the hook off the module."""
        if self._hook is not None:
            self._hook.remove()


def owner_of(target: Target, optimizers: Sequence[Optimizer]) -> tuple[Optimizer, dict[str, Any]]:
    """Find the optimizer that trains a matrix, and the options it does it with.

    Args:
        target: whose.
        optimizers: all of the trainer's.

    Returns:
        The optimizer and the parameter group of W_1.

    Raises:
        ValueError: if a weight is in no optimizer, or if the layers of a product are in groups that
            differ in learning rate, weight decay or depth.
    """
    owners = [_group_of(target.name, weight, optimizers) for weight in target.weights]
    for option in ("lr", "weight_decay", "depth"):
        values = [group.get(option) for _, group in owners]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{target.name}: expected one {option} for all its layers but got {values}; the "
                "theory is of layers that share it"
            )
    return owners[0]


def _group_of(
    name: str, weight: Tensor, optimizers: Sequence[Optimizer]
) -> tuple[Optimizer, dict[str, Any]]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                return optimizer, group
    raise ValueError(
        f"layers: expected {name!r} to be trained but its weight is in no optimizer; leave it out"
    )


def depth_of(target: Target, group: dict[str, Any]) -> float:
    """Tell how deep a network the matrix trains as.

    Args:
        target: N layers.
        group: its parameter group, of any optimizer.

    Returns:
        N times the depth with which each layer is trained, 1 but for EndToEndSGD's groups.
    """
    return float(len(target.weights) * group.get("depth", 1))
