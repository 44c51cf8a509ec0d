"""A data module over tensors that are in memory."""

from typing import TYPE_CHECKING

from torch import Tensor

from virtualdepth._lightning._batches import ShuffledBatches, TensorBatches

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule
else:
    LightningDataModule = object


class TensorDataMixin(LightningDataModule):
    """Train on tensors: on the full batch, or on mini-batches that a resumed run sees again.

    With the full batch an epoch is one step: ``max_epochs`` is the number of steps, and a logger
    wants ``log_every_n_steps=1``. To name your own data in a file for ``LightningCLI``, subclass it
    and pass the tensors on.

    Args:
        inputs: x, (samples, n).
        targets: y, (samples, m).
        batch_size: samples per mini-batch, shuffled anew in each epoch; None: the full batch.
        seed: of the shuffling.

    Raises:
        ValueError: if the numbers of samples differ or are zero, or ``batch_size`` < 1.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, *, batch_size: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        samples = inputs.shape[0]
        if samples == 0 or samples != targets.shape[0]:
            raise ValueError(
                "inputs, targets: expected as many rows in both, at least one, but got "
                f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
            )
        sampler = None if batch_size is None else ShuffledBatches(samples, batch_size, seed)
        self.batches = TensorBatches((inputs, targets), sampler)

    def train_dataloader(self) -> TensorBatches:
        """Hand the batches to the trainer.

        Returns:
            An iterable of (inputs, targets).
        """
        return self.batches
