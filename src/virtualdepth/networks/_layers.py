"""The layers of structured networks, and how each structure chains them.

A layer stands in the network as the optimizer sees it: its ``weight`` is shaped as what
``balanced_factors`` makes. But for one layer, which has torch's default start, a new layer passes
on what it gets, so that the network starts as one ``nn.Linear``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from virtualdepth.maths import StructureName, layer_sizes


class Gates(nn.Module):
    """Multiply each feature by a weight of its own."""

    def __init__(self, *shape: int, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape, **factory))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply (..., *shape), or what broadcasts to it, entry by entry."""
        return inputs * self.weight


class Filters(nn.Module):
    """Correlate each signal with a filter of its own, around a circle as long as the signal."""

    def __init__(self, rows: int, length: int, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, length, **factory))
        with torch.no_grad():
            self.weight[:, 0] = 1

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute sum_s W[i, s] x[..., i, t + s], (..., m, k), of (..., m or 1, k)."""
        spectrum = torch.fft.rfft(inputs) * torch.fft.rfft(self.weight).conj()
        correlated: Tensor = torch.fft.irfft(spectrum, n=self.weight.shape[-1])
        return correlated


class Convolution(nn.Module):
    """Correlate n channels with m x n filters, around a circle as long as the signal, or a torus.

    It is an ``nn.Conv`` with circular padding, whose kernel is as large as its input.
    """

    def __init__(
        self, out_channels: int, in_channels: int, *signal_size: int, **factory: Any
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, *signal_size, **factory))
        with torch.no_grad():
            self.weight.flatten(2)[..., 0] = torch.eye(out_channels, in_channels, **factory)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute sum_{j, s} W[i, j, s] x[..., j, t + s], (..., m, k, ...)."""
        size = self.weight.shape[2:]
        dims = list(range(-len(size), 0))
        spectrum = torch.fft.rfftn(inputs, dim=dims).flatten(-len(size))
        filters = torch.fft.rfftn(self.weight, dim=dims)
        halves = filters.shape[2:]
        product = torch.einsum("ijf,...jf->...if", filters.flatten(2).conj(), spectrum)
        product = product.reshape(*product.shape[:-1], *halves)
        correlated: Tensor = torch.fft.irfftn(product, s=size, dim=dims)
        return correlated


class Sizes(NamedTuple):
    """What a network is asked to be: m x n, by N layers, on signals (k, ...) or none."""

    out_features: int
    in_features: int
    depth: int
    hidden_features: int | Sequence[int] | None
    signal_size: tuple[int, ...]


def checked_size(size: int | Sequence[int] | None, structure: str) -> tuple[int, ...]:
    """Return the size of signals as a tuple, () for none; refuse what is none."""
    if size is None:
        return ()
    if structure != "circulant":
        raise ValueError(
            f"signal_size: expected None with structure={structure!r} but got {size!r}; signals "
            "need structure='circulant'"
        )
    try:
        lengths = tuple(map(index, size if isinstance(size, Sequence) else [size]))
    except TypeError:
        raise TypeError(f"signal_size: expected integers (k, ...) but got {size!r}") from None
    if not lengths or min(lengths) < 1:
        raise ValueError(f"signal_size: expected lengths >= 1 but got {size!r}")
    return lengths


class Chain(NamedTuple):
    """How a structure makes its layers, and what is done before the first and after the last."""

    layers: Callable[..., list[nn.Module]]  # (sizes, **factory) -> N layers
    enter: Callable[[Tensor], Tensor] = lambda inputs: inputs
    leave: Callable[[Tensor], Tensor] = lambda outputs: outputs


def _matrices(sizes: Sizes, **factory: Any) -> list[nn.Module]:
    m, n, depth, hidden, _ = sizes
    widths = layer_sizes(n, m, depth, hidden)
    return [nn.Linear(before, after, bias=False, **factory) for before, after in pairwise(widths)]


def _rows(sizes: Sizes, **factory: Any) -> list[nn.Module]:
    m, n, depth, *_ = sizes
    gates = [Gates(m, **factory) for _ in range(depth - 1)]
    return [nn.Linear(n, m, bias=False, **factory), *gates]


def _columns(sizes: Sizes, **factory: Any) -> list[nn.Module]:
    m, n, depth, *_ = sizes
    gates = [Gates(n, **factory) for _ in range(depth - 1)]
    return [*gates, nn.Linear(n, m, bias=False, **factory)]


def _entries(sizes: Sizes, **factory: Any) -> list[nn.Module]:
    m, n, depth, *_ = sizes
    first, *others = (Gates(m, n, **factory) for _ in range(depth))
    return [_started(first), *others]


def _filters(sizes: Sizes, **factory: Any) -> list[nn.Module]:
    m, n, depth, _, signal_size = sizes
    if not signal_size:
        first, *others = (Filters(m, n, **factory) for _ in range(depth))
        return [_started(first), *others]
    outer = _started(Convolution(m, n, *signal_size, **factory))
    inner = [Convolution(*[min(m, n)] * 2, *signal_size, **factory) for _ in range(depth - 1)]
    return [*inner, outer] if m > n else [outer, *inner]


def _started(layer: nn.Module) -> nn.Module:
    """Give a layer the default start of an nn.Linear, or of an nn.Conv."""
    nn.init.kaiming_uniform_(layer.get_parameter("weight"), a=math.sqrt(5))
    return layer


def _spread(inputs: Tensor) -> Tensor:
    """Give each output a copy of the inputs, (..., 1, n)."""
    return inputs.unsqueeze(-2)


CHAINS: Mapping[StructureName, Chain] = {
    "matrix": Chain(_matrices),
    "rows": Chain(_rows),
    "columns": Chain(_columns),
    "diagonal": Chain(_entries, _spread, lambda outputs: outputs.sum(-1)),
    "circulant": Chain(_filters, _spread, lambda outputs: outputs[..., 0]),
}
CONVOLUTIONS = Chain(_filters)  # of "circulant" on signals of several channels
