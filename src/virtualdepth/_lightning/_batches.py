"""Batches of tensors that are in memory, the same in every run and after every resume."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule
else:
    LightningDataModule = object


class ShuffledBatches(Sampler[Tensor]):
    """Deal the samples into batches by a permutation that depends only on seed and epoch.

    So a run that is resumed at the end of an epoch sees the batches it would have seen, though
    checkpoints hold no random state. Lightning calls :meth:`set_epoch`.

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
        """Choose the permutation of the next iteration: that of an epoch, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # a hash mixes seed and epoch: with seed + epoch, neighbouring seeds would share epochs.
        # 32 bits: torch's generator keeps no more of a seed
        mixed = random.Random(f"{self.seed}, {self.epoch}").getrandbits(32)
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(self.samples, generator=generator, device="cpu")
        yield from torch.split(order, self.batch_size)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)


class TensorBatches:
    """Iterate over rows of tensors, each (samples, ...): all in one batch, or by a sampler.

    Slicing a whole batch costs microseconds, where a ``DataLoader`` collates sample by sample.
    """

    def __init__(self, tensors: tuple[Tensor, ...], sampler: ShuffledBatches | None = None) -> None:
        self.tensors = tensors
        self.sampler = sampler  # Lightning looks for this name, to call set_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.sampler is None:
            yield self.tensors
        else:
            for rows in self.sampler:
                yield tuple(tensor[rows] for tensor in self.tensors)

    def __len__(self) -> int:
        return 1 if self.sampler is None else len(self.sampler)


class TensorDataMixin(LightningDataModule):
    """Train on tensors: on the full batch, or on mini-batches that a resumed run sees again.

    With the full batch an epoch is one step: ``max_epochs`` is the number of steps, and a logger
    needs ``log_every_n_steps=1``. To use your own data from a configuration file of
    ``LightningCLI``, write a subclass that passes its tensors on.

    Args:
        inputs: x, (samples, n).
        targets: y, (samples, m).
        batch_size: samples per mini-batch, shuffled anew in each epoch; None: the full batch. The
            last batch of an epoch may be smaller.
        seed: of the shuffling.

    Raises:
        ValueError: if the numbers of samples differ or are zero, or ``batch_size`` < 1.

    >>> import torch
    >>> from virtualdepth.lightning import TensorDataModule
    >>> data = TensorDataModule(torch.ones(10, 8), torch.ones(10, 3), batch_size=4)
    >>> [tuple(inputs.shape) for inputs, targets in data.train_dataloader()]
    [(4, 8), (4, 8), (2, 8)]
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, *, batch_size: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        samples = inputs.shape[0]
        if samples == 0 or samples != targets.shape[0]:
            raise ValueError(
                "inputs, targets: expected the same number of rows in both, at least one, but got "
                f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
            )
        sampler = None if batch_size is None else ShuffledBatches(samples, batch_size, seed)
        self.batches = TensorBatches((inputs, targets), sampler)

    def train_dataloader(self) -> TensorBatches:
        """Return the batches for the trainer.

        Returns:
            An iterable of (inputs, targets).
        """
        return self.batches
