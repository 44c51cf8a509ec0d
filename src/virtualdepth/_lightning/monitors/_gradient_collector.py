"""The gradient dl/dW of a watched layer, collected while the model trains."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth.maths import widened
from virtualdepth.networks import DeepLinear


class GradientCollector:
    """Collects G = dl/dW of one layer, summed over the backward passes of one optimizer step.

    A single layer has it in its weight's ``grad``. For a product it comes from hooks. Where the
    model calls the module, y = W x, G is the sum over samples of (dl/dy) x^T (one m x n x samples
    product). Where it calls ``DeepLinear.end_to_end()``, G is the gradient of that result.

    As with a weight's ``grad``, gradients from before a ``zero_grad`` do not count, nor those that
    arrive while the weights are frozen: in an adversarial loop one model's loss reaches the output
    of the other too.
    """

    def __init__(self, layer: WatchedLayer) -> None:
        self.layer = layer
        self.wanted = False
        self._sum: Tensor | None = None
        self._reached_weights = True  # whether the weights' grad holds all of the sum
        self._hooks: list[RemovableHandle] = []
        if layer.is_product:
            self._hooks.append(
                layer.module.register_forward_hook(self._watch_call, with_kwargs=True)
            )
        if isinstance(layer.module, DeepLinear):
            self._hooks.append(layer.module.register_end_to_end_hook(self._watch_product))

    def watch_weights(self) -> None:
        """Notice backward passes that reach the weights, which are final as training starts."""
        if self.layer.is_product:
            for weight in self.layer.weights:
                if weight.requires_grad:
                    self._hooks.append(
                        weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                            self._note_reached
                        )
                    )

    def _note_reached(self, weight: Tensor) -> None:
        self._reached_weights = True

    def _watch_call(
        self, module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        if self.wanted and output.requires_grad and self.layer.trains:
            inputs = (args or tuple(kwargs.values()))[0].detach()

            def add(grad: Tensor) -> None:
                rows, columns = grad.shape[-1], inputs.shape[-1]
                samples = widened(inputs).reshape(-1, columns)
                with torch.autocast(grad.device.type, enabled=False):
                    self._add(widened(grad).reshape(-1, rows).mT @ samples)

            output.register_hook(add)  # type: ignore[no-untyped-call]  # torch declares no types

    def _watch_product(self, product: Tensor) -> None:
        if self.wanted and product.requires_grad and self.layer.trains:
            product.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: self._add(widened(grad).clone())
            )

    def _add(self, grad: Tensor) -> None:
        # a backward pass comes here for all its calls before it reaches the weights: so if a pass
        # has reached them and their grad is gone, the sum so far belongs to an earlier step
        if self._reached_weights and all(weight.grad is None for weight in self.layer.weights):
            self._sum = None
        self._reached_weights = False
        self._sum = grad if self._sum is None else self._sum + grad

    def take(self) -> Tensor:
        """Return G of this step, (m, n), at least in float32, and forget it."""
        # that of a product comes from this process's samples; the gradient of a single layer has
        # been averaged over the processes
        if not self.layer.is_product:
            grad = self.layer.weights[0].grad
            found = None if grad is None else grad.detach().flatten(1)
        else:
            found, self._sum = self._sum, None
        if found is None:
            raise RuntimeError(
                f"{self.layer.name}: expected a gradient at each optimizer step but got none; "
                "does the loss depend on it, through a call of the module or DeepLinear.end_to_end?"
            )
        return widened(found)

    def remove(self) -> None:
        """Take the hooks off the module."""
        for hook in self._hooks:
            hook.remove()
