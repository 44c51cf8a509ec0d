"""Train several networks side by side, on the same batches and with the same units dropped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from virtualdepth.runs import torch_threads
from virtualdepth_lab.reproduce.mnist.problem import KEEP, Sizes, network, optimizer

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
    """One network in training; after it diverged its steps do nothing."""

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
        except FloatingPointError:  # EndToEndSGD refuses a step to numbers that are not finite
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
    """Train networks, given by kind and learning rate, in turns of one step each.

    So all meet the same load of the machine. Each step takes a batch of 64, drawn without
    replacement as long as they last; ``on_step`` is told its number. One thread computes, so that
    CPU time is the wall time of an idle machine.
    """
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    with torch_threads(1):
        running = [_Run(kind, lr, seed, sizes) for kind, lr in runs]
        for step in range(steps):
            on_step(step)
            batch = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(order)]
            kept = torch.rand(BATCH, sizes.hidden, generator=generator) < KEEP
            for run in running:
                run.step(images[batch], labels[batch], kept / KEEP)
    return [run.curve for run in running]
