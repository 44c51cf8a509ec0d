"""The explicit linear neural network that virtual depth stands for."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from virtualdepth.maths import (
    StructureName,
    balanced_factors,
    check_imbalance,
    check_matrix,
    check_structure,
    end_to_end_product,
    layer_sizes,
)
from virtualdepth.networks._layers import CHAINS, CONVOLUTIONS, Chain, Sizes, checked_size


class DeepLinear(nn.Module):
    r"""Apply N linear layers without biases: :math:`x \mapsto W_N \cdots W_1 x`.

    The slow, literal twin of one ``nn.Linear`` trained by :class:`virtualdepth.EndToEndSGD`, of
    the same structure and imbalance.

    Args:
        in_features: n.
        out_features: m.
        depth: number of layers N, an integer >= 1.
        hidden_features: one hidden width or N - 1, from input to output, each >= min(m, n);
            default min(m, n). None with any ``structure`` but "matrix".
        structure: what the layers are.

            - "matrix": N matrices, each an ``nn.Linear``.
            - "rows": a matrix (m, n), and then N - 1 layers of gates (m,), one for each output.
            - "columns": N - 1 layers of gates (n,), one for each input, and then a matrix (m, n).
            - "diagonal": N arrays (m, n): each output multiplies the inputs by N gates each, and
              sums.
            - "circulant": N arrays (m, n): each output correlates the inputs with N filters, around
              a circle of length n, and reads the first place. With ``signal_size``, N convolutions
              of channels around such a circle, or torus, with kernels as large as the signals.
              There are min(m, n) hidden channels.
        imbalance: lambda >= 0, by how much one layer is smaller than the others, see
            :func:`virtualdepth.balanced_factors`. It concerns the starts that factor a matrix:
            :meth:`set_end_to_end_`, :func:`virtualdepth.init.balanced_` and
            :func:`virtualdepth.init.identity_`.
        signal_size: (k, ...), with structure "circulant" only: W is (m, n, k, ...), and the inputs
            are signals of n channels, (..., n, k, ...).
        device: of the layers.
        dtype: of the layers.

    Attributes:
        layers: the N modules, in the order in which they are applied. A matrix has torch's default
            start. So has the product with another structure: one layer has that start, and the
            others pass on what they get.
        structure: their kind.
        imbalance: lambda.
        signal_size: (k, ...), or ().

    Raises:
        TypeError: if a size is no integer, or ``imbalance`` no real number.
        ValueError: if depth is not a positive integer, the widths do not fit, or another argument
            is none of those above.

    Source: arXiv 1802.06509, section 4; arXiv 1806.00468, sections 2 and 3 (diagonal and
    convolutional networks).

    >>> twin = DeepLinear.from_weight(torch.diag(torch.tensor([8.0, 27.0])), depth=3)
    >>> len(twin.layers), twin(torch.tensor([1.0, 1.0]))
    (3, tensor([ 8., 27.], grad_fn=<SqueezeBackward4>))
    >>> gates = DeepLinear.from_weight(torch.tensor([[3.0, 4.0]]), depth=2, structure="rows")
    >>> [factor.detach() for factor in gates.factors]  # a vector of norm 5^(1/2), and its gate
    [tensor([[1.3416, 1.7889]]), tensor([2.2361])]
    """

    # what networks have that were pickled before there were structures
    structure: StructureName = "matrix"
    imbalance: float = 0.0
    signal_size: tuple[int, ...] = ()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int,
        hidden_features: int | Sequence[int] | None = None,
        *,
        structure: StructureName = "matrix",
        imbalance: float = 0.0,
        signal_size: int | Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._end_to_end_hooks: dict[int, Callable[[Tensor], None]] = OrderedDict()
        self.structure, self.imbalance = check_structure(structure), check_imbalance(imbalance)
        self.signal_size = checked_size(signal_size, self.structure)
        if self.structure != "matrix" and hidden_features is not None:
            raise ValueError(
                f"hidden_features: expected None with structure={structure!r}, whose layers have "
                f"the widths of its blocks, but got {hidden_features!r}; use structure='matrix'"
            )
        sizes = layer_sizes(in_features, out_features, depth, hidden_features)
        self.layers = nn.ModuleList(
            self._chain.layers(
                Sizes(sizes[-1], sizes[0], len(sizes) - 1, hidden_features, self.signal_size),
                device=device,
                dtype=dtype,
            )
        )

    @classmethod
    def from_weight(
        cls,
        weight: Tensor,
        depth: int,
        hidden_features: int | Sequence[int] | None = None,
        *,
        structure: StructureName = "matrix",
        imbalance: float = 0.0,
    ) -> Self:
        """Build the exactly balanced network whose end-to-end matrix is ``weight``.

        Args:
            weight: W, (m, n), finite; with structure "circulant" also (m, n, k, ...).
            depth: number of layers N, an integer >= 1.
            hidden_features: one hidden width or N - 1, each >= min(m, n); default min(m, n). None
                with any ``structure`` but "matrix".
            structure: what the layers are.
            imbalance: lambda >= 0, by how much one layer is smaller than the others. With it, W may
                be zero and still moves.

        Returns:
            A network whose factors are :func:`virtualdepth.balanced_factors` of W, on the device
            and in the dtype of W.

        Raises:
            TypeError: if ``weight`` is complex, integer or sparse.
            ValueError: if ``weight`` is not a finite matrix, or depth, widths, structure or
                imbalance do not fit.

        Source: arXiv 1810.02281, Procedure 1; arXiv 2409.14623 (the imbalance).

        >>> lazy = DeepLinear.from_weight(torch.zeros(2, 3), depth=2, imbalance=0.25)
        >>> [factor.detach().norm().item() ** 2 for factor in lazy.factors]  # 0, and 2 lambda
        [0.0, 0.5]
        """
        check_matrix(weight)
        signal_size = tuple(weight.shape[2:]) or None
        if signal_size and check_structure(structure) != "circulant":
            raise ValueError(
                f"weight: expected a matrix (m, n) but got {tuple(weight.shape)}; kernels "
                "(m, n, k, ...) need structure='circulant'"
            )
        out_features, in_features = weight.shape[:2]
        # the random start that __init__ draws is replaced, so it must not advance the generators
        with torch.random.fork_rng([weight.device] if weight.is_cuda else []):
            network = cls(
                in_features,
                out_features,
                depth,
                hidden_features,
                structure=structure,
                imbalance=imbalance,
                signal_size=signal_size,
                device=weight.device,
                dtype=weight.dtype,
            )
        return network.set_end_to_end_(weight)

    @property
    def in_features(self) -> int:
        """The number n of inputs."""
        return self._shape[1]

    @property
    def out_features(self) -> int:
        """The number m of outputs."""
        return self._shape[0]

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape (m, n) of W, or (m, n, k, ...)."""
        # not the parameters: a layer that was pruned or made thin has its weight in another way
        first, last = (cast(Tensor, self.layers[index].weight) for index in (0, -1))
        # only gates have fewer dimensions than W, and they take the widths that there are
        outer = [factor for factor in (first, last) if factor.ndim > 1]
        return (outer[-1].shape[0], outer[0].shape[1], *self.signal_size)

    @property
    def _chain(self) -> Chain:
        return CONVOLUTIONS if self.signal_size else CHAINS[self.structure]

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
            weight: W, finite, (m, n), or (m, n, k, ...) with a ``signal_size``.

        Returns:
            The network.

        Raises:
            ValueError: if ``weight`` has another shape.
        """
        expected = self._shape
        if tuple(weight.shape) != expected:
            raise ValueError(f"weight: expected shape {expected} but got {tuple(weight.shape)}")
        hidden = [factor.shape[0] for factor in self.factors[:-1]]
        balanced = balanced_factors(
            weight.detach(),
            self.depth,
            hidden_features=hidden if self.structure == "matrix" else None,
            structure=self.structure,
            imbalance=self.imbalance,
        )
        for factor, value in zip(self.factors, balanced, strict=True):
            factor.copy_(value)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layers one after the other to inputs (..., n); the result is (..., m).

        With a ``signal_size`` they are (..., n, k, ...) and (..., m, k, ...).

        Args:
            inputs: x.

        Returns:
            The outputs.

        Raises:
            ValueError: if the inputs have other features or signals than the network.
        """
        expected = self._shape[1:]
        if inputs.shape[-len(expected) :] != expected:  # gates would broadcast a single feature
            shown = ", ".join(map(str, expected))
            raise ValueError(f"inputs: expected shape (..., {shown}) but got {tuple(inputs.shape)}")
        chain = self._chain
        passed = chain.enter(inputs)
        for layer in self.layers:
            passed = layer(passed)
        return chain.leave(passed)

    def end_to_end(self) -> Tensor:
        """Multiply the layers to the end-to-end matrix W_N ... W_1, (m, n), differentiable."""
        product = end_to_end_product(self.factors, structure=self.structure)
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

        Raises:
            ValueError: if the network is a convolution, which has a ``signal_size``.
        """
        if self.signal_size:
            raise ValueError(
                f"to_linear: expected a network of a matrix (m, n) but got a convolution of "
                f"signals {self.signal_size}; end_to_end() is its kernel"
            )
        weight = self.end_to_end().detach()
        linear = nn.Linear(
            self.in_features, self.out_features, bias=False, device="meta", dtype=weight.dtype
        ).to_empty(device=weight.device)
        with torch.no_grad():
            linear.weight.copy_(weight)
        return linear

    def extra_repr(self) -> str:
        """Show in_features, out_features and depth, and what else is not the default."""
        shown = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "depth": self.depth,
        }
        others = ("structure", "imbalance", "signal_size")
        shown |= {
            name: getattr(self, name)
            for name in others
            if getattr(self, name) != getattr(DeepLinear, name)
        }
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())
