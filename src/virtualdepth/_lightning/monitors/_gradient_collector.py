"""The gradient dl/dW of a watched layer, collected while the model trains."""

from collections.abc import Callable

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

    def __init__(self, layer: WatchedLayer, *, in_one_graph: bool = False) -> None:
        self.layer = layer
        self._in_one_graph = in_one_graph  # compiled with fullgraph=True
        self.wanted = False
        self._sum: Tensor | None = None
        self._error: Exception | None = None  # what went wrong in a hook
        self._reached_weights = True  # whether the weights' grad holds all of the sum
        self._noticed: set[int] = set()  # ids of the weights that tell of backward passes
        self._hooks: list[RemovableHandle] = []
        if layer.is_product:
            self._hooks.append(
                layer.module.register_forward_hook(self._watch_call, with_kwargs=True)
            )
        if isinstance(layer.module, DeepLinear):
            self._hooks.append(layer.module.register_end_to_end_hook(self._watch_product))

    def want(self, wanted: bool) -> None:
        """Collect from now on, or do not."""
        self.wanted = False
        if wanted and self.layer.is_product:
            self._notice_backward_passes()
        self.wanted = wanted

    def _notice_backward_passes(self) -> None:
        """Notice passes that reach the weights, which a strategy or a thaw may have replaced."""
        for weight in self.layer.weights:
            if weight.requires_grad and id(weight) not in self._noticed:
                self._noticed.add(id(weight))
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
        if self._has_no_place() or not self.wanted or not output.requires_grad:
            return
        inputs = (args or tuple(kwargs.values()))[0].detach()

        def outer_product(grad: Tensor) -> Tensor:
            rows, columns = grad.shape[-1], inputs.shape[-1]
            samples = widened(inputs).reshape(-1, columns)
            with torch.autocast(grad.device.type, enabled=False):
                return widened(grad).reshape(-1, rows).mT @ samples

        self._watch_gradient(output, outer_product)

    def _watch_product(self, product: Tensor) -> None:
        if self._has_no_place() or not self.wanted or not product.requires_grad:
            return
        self._watch_gradient(product, lambda grad: widened(grad).clone())

    def _has_no_place(self) -> bool:
        # torch.compile breaks the graph at a hook on an inner tensor; where it may not, it fails
        return self._in_one_graph and torch.compiler.is_compiling()

    def _watch_gradient(self, tensor: Tensor, of_product: Callable[[Tensor], Tensor]) -> None:
        """Add what the gradient of a tensor says about the product; an error waits for take()."""

        def add(grad: Tensor) -> None:
            try:
                self._add(of_product(grad.detach()))
            except Exception as error:  # raised here it would end the backward pass of the model
                self._error = error

        try:
            if self.layer.trains:
                tensor.register_hook(add)  # type: ignore[no-untyped-call]  # torch has no types
        except Exception as error:  # raised here it would end the forward pass
            self._error = error

    def _add(self, grad: Tensor) -> None:
        # a backward pass comes here for all its calls before it reaches the weights: so if a pass
        # has reached them and their grad is gone, the sum so far belongs to an earlier step
        if self._reached_weights and all(weight.grad is None for weight in self.layer.weights):
            self._sum = None
        self._reached_weights = False
        self._sum = grad if self._sum is None else self._sum + grad

    def take(self) -> Tensor | None:
        """Return G of this step, shaped as W, at least in float32, and forget it; or None."""
        # that of a product comes from this process's samples; the gradient of a single layer has
        # been averaged over the processes
        if not self.layer.is_product:
            return self.layer.gradient()
        found, self._sum = self._sum, None
        error, self._error = self._error, None
        if all(weight.grad is None for weight in self.layer.weights):
            return None  # the optimizer passes over them: a skipped batch, gradients thrown away
        if error is not None:
            raise error
        return found

    def remove(self) -> None:
        """Take the hooks off the module."""
        for hook in self._hooks:
            hook.remove()
