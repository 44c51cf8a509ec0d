"""Train several networks side by side, on the same batches and with the same units dropped."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, process_time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from virtualdepth_lab.reproduce.mnist.networks import KEEP, Sizes, network, optimizer

BATCH = 64

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What training one network left, an entry for each step; none after it diverged.

    Attributes:
        kind: of the network.
        lr: learning rate.
        parameters: how many the network has.
        loss: cross-entropy of the step's batch before the step, units dropped, without decay.
        cpu_seconds: process time of the step, on one thread.
        wall_seconds: wall time of the step.
    """

    kind: str
    lr: float
    parameters: int
    loss: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)


class _Run:
    """One network in training.

    Args:
        kind: of the network.
        lr: learning rate.
        seed: of its weights.
        sizes: of its layers.
    """

    def __init__(self, kind: str, lr: float, seed: int, sizes: Sizes) -> None:
        self._model = network(kind, seed, sizes)
        self._optimizer = optimizer(kind, self._model, lr)
        count = sum(parameter.numel() for parameter in self._model.parameters())
        self.curve = Curve(kind=kind, lr=lr, parameters=count)
        self._diverged = False

    def step(self, images: Tensor, labels: Tensor, dropout: Tensor) -> None:
        if self._diverged:
            return
        cpu, wall = process_time(), perf_counter()
        self._optimizer.zero_grad()
        loss = cross_entropy(self._model(images, dropout), labels)
        value = loss.item()
        loss.backward()  # type: ignore[no-untyped-call]
        try:
            self._optimizer.step()
        except FloatingPointError:  # EndToEndSGD takes no step to numbers that are not finite
            self._diverged = True
        if not math.isfinite(value):
            self._diverged = True
            return
        self.curve.loss.append(value)
        self.curve.cpu_seconds.append(process_time() - cpu)
        self.curve.wall_seconds.append(perf_counter() - wall)


def train(
    data: Data,
    runs: Sequence[tuple[str, float]],
    *,
    seed: int,
    steps: int,
    sizes: Sizes,
    on_step: Callable[[int], None],
) -> list[Curve]:
    """Train networks in turns, one step each, so that all meet the same load of the machine.

    Args:
        data: images and labels.
        runs: kind and learning rate of each.
        seed: of weights, batches and dropout.
        steps: how many, each on a batch of 64, drawn without replacement as long as they last.
        sizes: of the networks.
        on_step: told the number of each step.

    Returns:
        A curve for each run.
    """
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    with _one_thread():
        running = [_Run(kind, lr, seed, sizes) for kind, lr in runs]
        for step in range(steps):
            on_step(step)
            batch = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(order)]
            kept = torch.rand(BATCH, sizes.hidden, generator=generator) < KEEP
            for run in running:
                run.step(images[batch], labels[batch], kept / KEEP)
    return [run.curve for run in running]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, so that CPU time is the wall time of an idle machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def best_rate(
    evaluate: Callable[[float], float], rates: Sequence[float], first: float
) -> tuple[float, dict[float, float]]:
    """Walk downhill on a grid until both neighbours are worse.

    Args:
        evaluate: learning rate -> loss; infinite where training diverged.
        rates: the grid, ascending.
        first: the rate of the grid to begin at.

    Returns:
        The best rate tried, and the loss at each that was.

    >>> best_rate(lambda rate: abs(rate - 3), [1, 2, 3, 4, 5, 6], 2)
    (3, {2: 1, 1: 2, 3: 0, 4: 1})
    """
    losses: dict[float, float] = {}
    best = rates.index(first)
    while True:
        near = [index for index in (best, best - 1, best + 1) if 0 <= index < len(rates)]
        for index in near:
            if rates[index] not in losses:
                losses[rates[index]] = evaluate(rates[index])
        lowest = min(near, key=lambda index: losses[rates[index]])
        if lowest == best:
            return rates[best], losses
        best = lowest
