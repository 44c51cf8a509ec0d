"""dl/dW of the matrices that a callback watches, and the options their optimizer steps with."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from virtualdepth._lightning.monitors._targets import Target
from virtualdepth.networks import DeepLinear
from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._matrix_view import MatrixView


class GradientCollector:
    """Collects the gradient of the loss by one target's matrix, W.

    Of a single layer it is the weight's own ``grad``. Of a product it is summed over every backward
    pass since the last :meth:`take`: where the model calls the module, by a hook on the output
    y = W x, as the sum over samples of (dl/dy) x^T (one m x n x samples product); where it calls
    ``DeepLinear.end_to_end()``, by a hook on the product itself. As with a weight's ``grad``, what
    was summed before a ``zero_grad`` does not count, nor what flows while the weights are frozen:
    in an adversarial loop the loss of one model reaches the other's output too.

    Args:
        target: whose.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.wanted = False
        self._sum: Tensor | None = None
        self._accumulated = True  # into the weights' grad, all that has been summed
        self._hooks: list[RemovableHandle] = []
        if target.is_product:
            self._hooks.append(
                target.module.register_forward_hook(self._watch_call, with_kwargs=True)
            )
        if isinstance(target.module, DeepLinear):
            self._hooks.append(target.module.register_end_to_end_hook(self._watch_product))

    def watch_weights(self) -> None:
        """Notice backward passes that reach the weights, which are final as training starts."""
        if self.target.is_product:
            for weight in self.target.weights:
                if weight.requires_grad:
                    self._hooks.append(
                        weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                            self._note_accumulated
                        )
                    )

    def _note_accumulated(self, weight: Tensor) -> None:
        self._accumulated = True

    def _watch_call(
        self, module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        if self.wanted and output.requires_grad and self.target.trains:
            inputs = (args or tuple(kwargs.values()))[0].detach()

            def add(grad: Tensor) -> None:
                rows, columns = grad.shape[-1], inputs.shape[-1]
                samples = _computable(inputs).reshape(-1, columns)
                with torch.autocast(grad.device.type, enabled=False):
                    self._add(_computable(grad).reshape(-1, rows).mT @ samples)

            output.register_hook(add)  # type: ignore[no-untyped-call]  # torch declares no types

    def _watch_product(self, product: Tensor) -> None:
        if self.wanted and product.requires_grad and self.target.trains:
            product.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: self._add(_computable(grad).clone())
            )

    def _add(self, grad: Tensor) -> None:
        # all calls of one backward pass come before it reaches the weights: if an earlier pass did
        # and its grad is gone, the sum is not of this step
        if self._accumulated and all(w.grad is None for w in self.target.weights):
            self._sum = None
        self._accumulated = False
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
    found = {
        option: [group.get(option) for _, group in owners] for option in ("lr", "weight_decay")
    }
    found["depth"] = [
        _depth_of_layer(weight, group)
        for weight, (_, group) in zip(target.weights, owners, strict=True)
    ]
    for option, values in found.items():
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


def refuse_other_rules(target: Target, group: dict[str, Any]) -> None:
    """Refuse a rule whose steps are not of size lr along P_W(G), which theory speaks of.

    Args:
        target: whose.
        group: its parameter group.

    Raises:
        ValueError: if the group scales its steps, its rule starts at an origin of its own, or it
            takes a weight as several matrices.
    """
    for option, expected in (("step_scale", "raw"), ("origin", None)):
        value = group.get(option, expected)
        if value != expected:
            raise ValueError(
                f"{target.name}: expected {option}={expected!r} but got {value!r}: the theory is "
                "of steps lr P_W(G)"
            )
    for weight in target.weights:
        view = _view_of(weight, group)
        if view is not None and view.count > 1:
            raise ValueError(
                f"{target.name}: expected a weight that trains as one matrix but got one that its "
                f"group takes as {view.count} (blocks or conv_groups), each with a spectrum of its "
                "own"
            )


def depth_of(target: Target, group: dict[str, Any]) -> float:
    """Tell how deep a network the matrix trains as.

    Args:
        target: N layers.
        group: its parameter group, of any optimizer.

    Returns:
        N times the depth with which each layer is trained: 1 but for matrices given depth.
    """
    return len(target.weights) * _depth_of_layer(target.weights[0], group)


def decay_of(target: Target, owner: Optimizer, group: dict[str, Any]) -> float:
    """Tell the decay of each of the layers that :func:`depth_of` counts.

    Args:
        target: whose.
        owner: its optimizer. EndToEndSGD decays every virtual layer, others W once, whatever its
            depth.
        group: its parameter group.

    Returns:
        lambda.
    """
    decay = float(group.get("weight_decay", 0))
    depth = _depth_of_layer(target.weights[0], group)
    return decay if isinstance(owner, EndToEndSGD) or math.isinf(depth) else decay / depth


def _depth_of_layer(weight: Tensor, group: dict[str, Any]) -> float:
    return 1.0 if _view_of(weight, group) is None else float(group["depth"])


def _view_of(weight: Tensor, group: dict[str, Any]) -> MatrixView | None:
    # a product's layers may be in several groups alike
    places = (i for i, p in enumerate(group["params"]) if p is weight)
    return next((MatrixView.of(group, place) for place in places), None)
