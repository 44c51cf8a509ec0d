"""What the studies of trained networks share: their layers, their accuracy, and trials."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

Data = tuple[Tensor, Tensor]  # inputs and labels


def layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers whose weights are trained."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return [module for module in linear if module.weight.requires_grad]


def cut(data: Data, sizes: Sequence[int]) -> list[Data]:
    """Samples in order, so many each."""
    ends = [0, *accumulate(sizes)]
    return [(data[0][a:b], data[1][a:b]) for a, b in pairwise(ends)]


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    """Share of right answers, in per cent."""
    return 100 * (model(data[0]).argmax(1) == data[1]).double().mean().item()


def trials(count: int) -> Iterator[tuple[float, float]]:
    """Draw two numbers in [0, 1) for each trial, the same for every method."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        first, second = torch.rand(2, generator=generator).tolist()
        yield first, second


def log_scale(at: float, ends: tuple[float, float]) -> float:
    """Find the place between two numbers, 0 at the first and 1 at the second, by logarithms."""
    low, high = ends
    return math.exp((1 - at) * math.log(low) + at * math.log(high))
