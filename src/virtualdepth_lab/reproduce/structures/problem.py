"""The networks of every structure, written out, and signals of few active blocks.

Sources: arXiv 1806.00468 (elementwise products, circular convolutions), 2010.02501, 2108.01538.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.maths import StructureName


@dataclass(frozen=True, kw_only=True)
class Network:
    """A structured weight, and what the layers of its explicit network multiply to.

    Attributes:
        name: of the row.
        structure: as the rule calls it.
        shape: of the weight.
        join: the product of two layers, the one applied first last; written out, without
            transforms, so that it is a truth independent of the rule.
    """

    name: str
    structure: StructureName
    shape: tuple[int, ...]
    join: Callable[[Tensor, Tensor], Tensor]

    def product(self, layers: Sequence[Tensor]) -> Tensor:
        """Multiply the layers, the first applied first."""
        result = layers[0]
        for layer in layers[1:]:
            result = self.join(layer, result)
        return result


def convolve(after: Tensor, before: Tensor) -> Tensor:
    """Convolve circularly, term by term: (..., k) entry by entry, (m, n, k) as matrices.

    >>> convolve(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 3.0]))
    tensor([3., 1., 2.])
    """
    size = after.shape[-1]
    shifts = (torch.arange(size)[:, None] - torch.arange(size)) % size
    if after.ndim == 1:
        return before[shifts] @ after
    return torch.einsum("ijs,jkts->ikt", after, before[..., shifts])


NETWORKS = (
    Network(name="matrix", structure="matrix", shape=(4, 6), join=torch.matmul),
    Network(
        name="rows",
        structure="rows",
        shape=(4, 6),
        join=lambda gates, rows: gates.unsqueeze(-1) * rows,
    ),
    Network(name="columns", structure="columns", shape=(4, 6), join=torch.mul),
    Network(name="diagonal", structure="diagonal", shape=(12,), join=torch.mul),
    Network(name="circulant", structure="circulant", shape=(12,), join=convolve),
    Network(name="circulant, channels", structure="circulant", shape=(3, 4, 5), join=convolve),
)


def quadratic(shape: Sequence[int], seed: int) -> Callable[[Tensor], Tensor]:
    """Draw a least squares problem of twice as many samples as weights; return its gradient."""
    size = math.prod(shape)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2 * size, size, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.randn(size, generator=generator, dtype=torch.float64)

    def gradient(weight: Tensor) -> Tensor:
        residual = inputs @ weight.flatten() - targets
        return (inputs.T @ residual / len(inputs)).view(weight.shape)

    return gradient


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Signals of few active blocks, and fewer measurements of each than it has numbers.

    Attributes:
        structure: which blocks: "diagonal" (entries), "rows" (groups) or "circulant"
            (frequencies).
        truth: (draws, blocks, numbers of a block): the coefficients, the largest block of norm 1.
            Of a frequency they are the real and imaginary part of its Fourier coefficient.
        maps: (draws, measurements, blocks * numbers of a block), from coefficients to values.
        weight_maps: (draws, measurements, numbers of the weight), from the weight to values.
        values: what is measured, (draws, measurements).
    """

    structure: StructureName
    truth: Tensor
    maps: Tensor
    weight_maps: Tensor
    values: Tensor

    def weight(self, coefficients: Tensor) -> Tensor:
        """Build the weight of coefficients shaped as the truth: all draws in one."""
        if self.structure == "circulant":
            signals: Tensor = torch.fft.irfft(torch.view_as_complex(coefficients), n=LENGTH)
            return signals
        return coefficients.flatten(0, 1)

    def coefficients(self, weight: Tensor) -> Tensor:
        """Invert :meth:`weight`."""
        if self.structure == "circulant":
            return torch.view_as_real(torch.fft.rfft(weight))
        return weight.view(self.truth.shape)

    def gradient(self, weight: Tensor) -> Tensor:
        """Compute the gradient of half the sum of squares over all draws."""
        residual = self.weight_maps @ weight.reshape(len(self.truth), -1, 1)
        residual -= self.values.unsqueeze(-1)
        return (self.weight_maps.mT @ residual).view(weight.shape)

    def errors(self, coefficients: Tensor) -> Tensor:
        """Compute the relative errors of coefficients shaped as the truth, (draws,)."""
        off: Tensor = torch.linalg.vector_norm(coefficients - self.truth, dim=(1, 2))
        size: Tensor = torch.linalg.vector_norm(self.truth, dim=(1, 2))
        return off / size


LENGTH = 64  # of a signal of entries, and of one of frequencies
GROUPS, GROUP_SIZE = 30, 4
MEASURED: Mapping[StructureName, int] = {"diagonal": 32, "rows": 40, "circulant": 32}
ACTIVE: Mapping[StructureName, Sequence[int]] = {
    "diagonal": (4, 6, 8, 10, 12),
    "rows": (3, 4, 5, 6, 7),
    "circulant": (3, 5, 7, 9, 11),
}


def draw_signals(
    structure: StructureName, active: int, draws: int, generator: torch.Generator
) -> Signals:
    """Draw signals of ``active`` Gaussian blocks, measured at random, without noise.

    Entries and groups are measured by Gaussian rows, frequencies at random times.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    measured = MEASURED[structure]
    if structure == "circulant":
        basis = _fourier(LENGTH)
        blocks, size, choices = LENGTH // 2 + 1, 2, range(1, LENGTH // 2)
        times = [torch.randperm(LENGTH, generator=generator)[:measured] for _ in range(draws)]
        maps = torch.stack([basis[chosen] for chosen in times])
        weight_maps = torch.eye(LENGTH, dtype=torch.float64)[torch.stack(times)]
    else:
        blocks, size = (GROUPS, GROUP_SIZE) if structure == "rows" else (LENGTH, 1)
        choices = range(blocks)
        maps = weight_maps = normal(draws, measured, blocks * size) / math.sqrt(measured)
    truth = torch.zeros(draws, blocks, size, dtype=torch.float64)
    for each in truth:
        order = torch.randperm(len(choices), generator=generator)[:active]
        each[order + choices[0]] = normal(active, size)
    truth /= torch.linalg.vector_norm(truth, dim=-1).amax(1)[:, None, None]
    values = (maps @ truth.flatten(1).unsqueeze(-1)).squeeze(-1)
    return Signals(
        structure=structure, truth=truth, maps=maps, weight_maps=weight_maps, values=values
    )


def _fourier(length: int) -> Tensor:
    """Build the map from (real, imaginary) Fourier coefficients to a signal, by ``irfft``."""
    count = length // 2 + 1
    parts = torch.eye(2 * count, dtype=torch.float64).view(2 * count, count, 2)
    signals: Tensor = torch.fft.irfft(torch.view_as_complex(parts), n=length)
    return signals.T


def joined(drawn: Sequence[Signals]) -> Signals:
    """Put signals of one structure together."""
    return Signals(
        structure=drawn[0].structure,
        truth=torch.cat([signals.truth for signals in drawn]),
        maps=torch.cat([signals.maps for signals in drawn]),
        weight_maps=torch.cat([signals.weight_maps for signals in drawn]),
        values=torch.cat([signals.values for signals in drawn]),
    )
