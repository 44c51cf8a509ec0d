"""Batches of tensors that are in memory, the same in every run and after every resume."""

import random
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class ShuffledBatches(Sampler[Tensor]):
    """Deal the samples into batches by a permutation that depends on seed and epoch alone.

    A run resumed at the end of an epoch so sees the batches it would have seen, though checkpoints
    hold no random state. Lightning calls :meth:`set_epoch`; a loop of your own has to.

    Args:
        samples: how many there are.
        batch_size: samples per batch, >= 1; the last batch may be smaller.
        seed: which sequence of permutations.

    Raises:
        ValueError: if ``samples`` or ``batch_size`` is not positive.

    >>> batches = ShuffledBatches(5, batch_size=2)
    >>> first = [rows.tolist() for rows in batches]
    >>> [len(rows) for rows in first], sorted(sum(first, []))
    ([2, 2, 1], [0, 1, 2, 3, 4])
    >>> batches.set_epoch(1)
    >>> first == [rows.tolist() for rows in batches]
    False
    """

    def __init__(self, samples: int, batch_size: int, seed: int = 0) -> None:
        for name, value in (("samples", samples), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name}: expected an integer >= 1 but got {value!r}")
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation that the next iteration uses.

        Args:
            epoch: which epoch begins, from 0.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # torch's generator keeps 32 bits of a seed: a hash of both mixes them, seed + epoch would
        # give neighbouring seeds each other's epochs
        mixed = random.Random(f"{self.seed}, {self.epoch}").getrandbits(32)
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(self.samples, generator=generator, device="cpu")
        yield from torch.split(order, self.batch_size)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)


class TensorBatches:
    """Iterate over rows of tensors: all of them in one batch, or as a sampler deals them.

    Slicing whole batches costs microseconds, where a ``DataLoader`` collates sample by sample, and
    there is no work to give to worker processes.

    Args:
        tensors: each (samples, ...), as many rows in each.
        sampler: yields the rows of each batch; None: all rows, in order.

    >>> len(TensorBatches((torch.ones(5, 3), torch.ones(5, 2))))
    1
    """

    def __init__(self, tensors: tuple[Tensor, ...], sampler: ShuffledBatches | None = None) -> None:
        self.tensors = tensors
        self.sampler = sampler  # under this name Lightning finds it, to call set_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.sampler is None:
            yield self.tensors
        else:
            for rows in self.sampler:
                yield tuple(tensor[rows] for tensor in self.tensors)

    def __len__(self) -> int:
        return 1 if self.sampler is None else len(self.sampler)
