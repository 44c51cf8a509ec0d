"""The explicit linear neural network that virtual depth stands for."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from virtualdepth.maths import balanced_factors, check_matrix, end_to_end_product, layer_sizes


class DeepLinear(nn.Module):
    r"""Apply N linear layers without biases: :math:`x \mapsto W_N \cdots W_1 x`.

    The slow, literal twin of one ``nn.Linear`` trained by :class:`virtualdepth.EndToEndSGD`.

    Args:
        in_features: n.
        out_features: m.
        depth: number of layers N, an integer >= 1.
        hidden_features: one hidden width or N - 1, from input to output, each >= min(m, n);
            default min(m, n).
        device: of the layers.
        dtype: of the layers.

    Attributes:
        layers: the N ``nn.Linear`` modules, in the order in which they are applied. Each has
            torch's default start.

    Raises:
        ValueError: if depth is not a positive integer, or the widths do not fit.

    Source: arXiv 1802.06509, section 4.

    >>> twin = DeepLinear.from_weight(torch.diag(torch.tensor([8.0, 27.0])), depth=3)
    >>> len(twin.layers), twin(torch.tensor([1.0, 1.0]))
    (3, tensor([ 8., 27.], grad_fn=<SqueezeBackward4>))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int,
        hidden_features: int | Sequence[int] | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._end_to_end_hooks: dict[int, Callable[[Tensor], None]] = OrderedDict()
        sizes = layer_sizes(in_features, out_features, depth, hidden_features)
        self.layers = nn.ModuleList(
            nn.Linear(columns, rows, bias=False, device=device, dtype=dtype)
            for columns, rows in pairwise(sizes)
        )

    @classmethod
    def from_weight(
        cls, weight: Tensor, depth: int, hidden_features: int | Sequence[int] | None = None
    ) -> Self:
        """Build the exactly balanced network whose end-to-end matrix is ``weight``.

        Args:
            weight: W, (m, n), finite.
            depth: number of layers N, an integer >= 1.
            hidden_features: one hidden width or N - 1, each >= min(m, n); default min(m, n).

        Returns:
            A network whose factors are :func:`virtualdepth.balanced_factors` of W, on the device
            and in the dtype of W.

        Raises:
            TypeError: if ``weight`` is complex, integer or sparse.
            ValueError: if ``weight`` is not a finite matrix, or depth or widths do not fit.

        Source: arXiv 1810.02281, Procedure 1.
        """
        check_matrix(weight)
        if weight.ndim != 2:
            raise ValueError(f"weight: expected a matrix (m, n) but got {tuple(weight.shape)}")
        out_features, in_features = weight.shape
        # the random start that __init__ draws is replaced, so it must not advance the generators
        with torch.random.fork_rng([weight.device] if weight.is_cuda else []):
            network = cls(
                in_features,
                out_features,
                depth,
                hidden_features,
                device=weight.device,
                dtype=weight.dtype,
            )
        return network.set_end_to_end_(weight)

    @property
    def in_features(self) -> int:
        """The number n of inputs."""
        return self.factors[0].shape[1]

    @property
    def out_features(self) -> int:
        """The number m of outputs."""
        return self.factors[-1].shape[0]

    @property
    def depth(self) -> int:
        """The number N of layers."""
        return len(self.layers)

    @property
    def factors(self) -> list[Tensor]:
        """[W_1, ..., W_N], W_1 applied first: the parameters themselves, not copies."""
        return [layer.get_parameter("weight") for layer in self.layers]

    @torch.no_grad()
    def set_end_to_end_(self, weight: Tensor) -> Self:
        """Replace the factors by balanced ones with the product ``weight``; all widths stay.

        Args:
            weight: W, (m, n), finite.

        Returns:
            The network.

        Raises:
            ValueError: if ``weight`` has another shape than (out_features, in_features).
        """
        expected = (self.out_features, self.in_features)
        if tuple(weight.shape) != expected:
            raise ValueError(f"weight: expected shape {expected} but got {tuple(weight.shape)}")
        hidden = [factor.shape[0] for factor in self.factors[:-1]]
        balanced = balanced_factors(weight.detach(), self.depth, hidden_features=hidden)
        for factor, value in zip(self.factors, balanced, strict=True):
            factor.copy_(value)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layers one after the other to inputs (..., n); the result is (..., m)."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def end_to_end(self) -> Tensor:
        """Multiply the layers to the end-to-end matrix W_N ... W_1, (m, n), differentiable."""
        product = end_to_end_product(self.factors)
        for hook in self._end_to_end_hooks.values():
            hook(product)
        return product

    def register_end_to_end_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call a function with every matrix that :meth:`end_to_end` computes, before it returns.

        It is to :meth:`end_to_end` what ``register_forward_hook`` is to calls of the module. A
        monitor gets the gradient by the product from ``product.register_hook(...)``.

        Args:
            hook: called with the product, (m, n).

        Returns:
            A handle whose ``remove()`` removes the hook.

        >>> network, seen = DeepLinear(3, 2, depth=2), []
        >>> handle = network.register_end_to_end_hook(lambda product: seen.append(product.shape))
        >>> product = network.end_to_end()
        >>> handle.remove()
        >>> product = network.end_to_end()
        >>> seen
        [torch.Size([2, 3])]
        """
        handle = RemovableHandle(self._end_to_end_hooks)
        self._end_to_end_hooks[handle.id] = hook
        return handle

    def to_linear(self) -> nn.Linear:
        """Collapse the network into one layer that computes the same function.

        Returns:
            An ``nn.Linear`` without bias that holds a copy of the end-to-end matrix.
        """
        weight = self.end_to_end().detach()
        linear = nn.Linear(
            self.in_features, self.out_features, bias=False, device="meta", dtype=weight.dtype
        ).to_empty(device=weight.device)
        with torch.no_grad():
            linear.weight.copy_(weight)
        return linear

    def extra_repr(self) -> str:
        """Show in_features, out_features and depth."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, depth={self.depth}"
        )
