"""dl/dW of the matrices that a callback watches, and the options their optimizer steps with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from virtualdepth.lightning_common.callbacks.targets import Target
from virtualdepth.networks import DeepLinear
from virtualdepth.optim.matrix_view import MatrixView


class EndToEndGradient:
    """Collects the gradient of the loss by one target's matrix, W.

    Of a single layer it is the weight's own ``grad``. Of a product it is summed over every backward
    pass since the last :meth:`take`: where the model calls the module, by a hook on the output
    y = W x, as the sum over samples of (dl/dy) x^T (one m x n x samples product); where it calls
    ``DeepLinear.end_to_end()``, by a hook on the product itself.

    Args:
        target: whose.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.wanted = False
        self._sum: Tensor | None = None
        self._hooks = []
        if target.is_product:
            self._hooks.append(target.module.register_forward_hook(self._watch_call))
        if isinstance(target.module, DeepLinear):
            self._hooks.append(target.module.register_end_to_end_hook(self._watch_product))

    def _watch_call(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self.wanted and output.requires_grad:
            inputs = args[0].detach()

            def add(grad: Tensor) -> None:
                rows, columns = grad.shape[-1], inputs.shape[-1]
                samples = _computable(inputs).reshape(-1, columns)
                self._add(_computable(grad).reshape(-1, rows).mT @ samples)

            output.register_hook(add)  # type: ignore[no-untyped-call]  # torch declares no types

    def _watch_product(self, product: Tensor) -> None:
        if self.wanted and product.requires_grad:
            product.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: self._add(_computable(grad).clone())
            )

    def _add(self, grad: Tensor) -> None:
        self._sum = grad if self._sum is None else self._sum + grad

    def take(self) -> Tensor:
        """Return the gradient of this step, and forget it.

        Returns:
            G, (m, n), at least in float32: of this process's samples for a product, of all for a
            single layer, whose gradients the processes have averaged before.

        Raises:
            RuntimeError: if the loss of this step does not depend on the matrix.
        """
        if not self.target.is_product:
            grad = self.target.weights[0].grad
            found = None if grad is None else grad.detach().flatten(1)
        else:
            found, self._sum = self._sum, None
        if found is None:
            raise RuntimeError(
                f"{self.target.name}: expected a gradient at each optimizer step but got none; "
                "does the loss depend on it, through a call of the module or DeepLinear.end_to_end?"
            )
        return _computable(found)

    def remove(self) -> None:
        """Take the hooks off the module."""
        for hook in self._hooks:
            hook.remove()


def _computable(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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


def refuse_scaled_steps(target: Target, group: dict[str, Any]) -> None:
    """Refuse a rule whose steps are not of size lr along P_W(G), which theory speaks of.

    Args:
        target: whose.
        group: its parameter group.

    Raises:
        ValueError: if the group scales its steps, or its rule starts at an origin of its own.
    """
    for option, expected in (("step_scale", "raw"), ("origin", None)):
        value = group.get(option, expected)
        if value != expected:
            raise ValueError(
                f"{target.name}: expected {option}={expected!r} but got {value!r}: the theory is "
                "of steps lr P_W(G)"
            )


def depth_of(target: Target, group: dict[str, Any]) -> float:
    """Tell how deep a network the matrix trains as.

    Args:
        target: N layers.
        group: its parameter group, of any optimizer.

    Returns:
        N times the depth with which each layer is trained, 1 but for EndToEndSGD's groups.
    """
    place = next(i for i, p in enumerate(group["params"]) if p is target.weights[0])
    plain = MatrixView.of(group, place) is None
    return float(len(target.weights) * (1 if plain else group["depth"]))
