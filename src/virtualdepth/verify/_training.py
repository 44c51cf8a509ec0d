"""One learning rate of the check under Lightning, and what happened at every step of it."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from lightning_utilities.core import rank_zero
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from virtualdepth.lightning import EquivalenceModule, TensorDataModule
from virtualdepth.runs import torch_threads
from virtualdepth.verify._results import Curve

PRECISIONS = {"float64": "64-true", "float32": "32-true"}

# Below this size of the data threads save nothing, and on a busy machine their waiting for each
# other makes a step a hundred times slower.
_ENTRIES_WORTH_THREADS = 1_000_000


def follow(
    inputs: Tensor,
    targets: Tensor,
    *,
    lr: float,
    steps: int,
    dtype: str,
    on_step: Callable[[], object],
    **module_options: Any,
) -> Curve:
    """Train both models on inputs (samples, n) and targets (samples, m) for ``steps`` full batches.

    ``module_options`` are depth and the other options of EquivalenceModule. The curve has
    steps + 1 entries, fewer if one of the models diverged.
    """
    recorder = Recorder(Curve(lr=lr), on_step)
    batch = [tensor.to(getattr(torch, dtype)) for tensor in (inputs, targets)]
    with _quiet(), _interruptible(), _threads_for(inputs):
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            precision=PRECISIONS[dtype],  # type: ignore[arg-type]
            max_epochs=steps,
            callbacks=[recorder],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # made in the trainer's dtype; torch's global random numbers stay as they are
        with trainer.init_module(), torch.random.fork_rng(devices=[]):
            module = EquivalenceModule(inputs.shape[1], targets.shape[1], lr=lr, **module_options)
        recorder.start(module)
        # the optimizer raises it instead of a step from or to numbers that are not finite
        with suppress(FloatingPointError):
            trainer.fit(module, datamodule=TensorDataModule(batch[0], batch[1]))
        with torch.no_grad():
            recorder.complete(*module.losses(batch[0], batch[1]))
    return recorder.curve


class Recorder(Callback):
    """Append to a curve what the module logs: losses before each step, the rest after it."""

    def __init__(self, curve: Curve, on_step: Callable[[], object]) -> None:
        self.curve = curve
        self.diverged = False  # whether a number was not finite, which ends the training
        self._on_step = on_step
        self._gap_and_balance = (math.nan, math.nan)

    @torch.no_grad()
    def start(self, module: EquivalenceModule) -> None:
        """Measure a module that is not trained yet: factoring leaves a rounding error."""
        measures = module.measure()
        self._gap_and_balance = measures["gap"].item(), measures["balancedness"].item()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record one step, and stop the trainer if it diverged."""
        logged = trainer.callback_metrics
        self.complete(logged["loss_single"], logged["loss_deep"])
        self._gap_and_balance = logged["gap"].item(), logged["balancedness"].item()
        if self.diverged:
            trainer.should_stop = True
        self._on_step()

    def complete(self, loss_single: Tensor, loss_deep: Tensor) -> None:
        """Append the state after the last step, whose losses (scalars) are known now."""
        gap, balance = self._gap_and_balance
        state = (loss_single.item(), loss_deep.item(), gap, balance)
        self.diverged = self.diverged or not all(map(math.isfinite, state))
        if not self.diverged:
            curve = self.curve
            columns = (curve.loss_single, curve.loss_deep, curve.gap, curve.balancedness)
            for column, value in zip(columns, state, strict=True):
                column.append(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks on hardware and loggers off the terminal in this block."""
    log = rank_zero.log
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 asks torch for the class of a pytree leaf in the old way.
            warnings.filterwarnings("ignore", "`isinstance.*LeafSpec", FutureWarning)
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt again where Lightning turns it into an exit with status 1."""
    try:
        yield
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _threads_for(inputs: Tensor) -> AbstractContextManager[None]:
    return torch_threads(1) if inputs.numel() < _ENTRIES_WORTH_THREADS else nullcontext()
