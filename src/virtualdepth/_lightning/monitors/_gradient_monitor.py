"""What the monitors of gradients share: dl/dW of each target before each optimizer step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from virtualdepth._lightning.monitors._base import IntervalMonitor
from virtualdepth._lightning.monitors._gradients import GradientCollector, owner_of
from virtualdepth._lightning.monitors._targets import Target, find_targets, refuse_sharded

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class GradientMonitor(IntervalMonitor):
    """Look at weights and gradients together, as the optimizer is about to use them.

    Under gradient accumulation and over several processes the gradient is that of the whole batch.
    It is taken before clipping.

    Args:
        layers: wildcards over names of modules, as of
            :func:`~virtualdepth._lightning.monitors._targets.find_targets`.
        interval: see :class:`IntervalMonitor`.
        figure: see :class:`IntervalMonitor`.
    """

    def __init__(self, layers: str | Sequence[str], *, interval: int, figure: bool) -> None:
        super().__init__(interval=interval, figure=figure, layers=layers)
        self.layers = layers
        self._gradients: list[GradientCollector] = []
        self._owners: dict[str, tuple[Optimizer, dict[str, Any]]] = {}

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        targets = find_targets(pl_module, self.layers)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        for target in targets:
            if scaled:
                raise ValueError(
                    f"precision: expected unscaled gradients of {target.name!r} but got float16 "
                    "with loss scaling; use precision='bf16-mixed'"
                )
        self._unhook()
        self._gradients = [GradientCollector(target) for target in targets]

    @property
    def targets(self) -> list[Target]:
        """The matrices that are watched."""
        return [gradient.target for gradient in self._gradients]

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the optimizer of each matrix.

        Args:
            trainer: the trainer.
            pl_module: the model.

        Raises:
            TypeError: if a matrix is sharded.
            ValueError: if a matrix is in no optimizer.
        """
        refuse_sharded(self.targets)
        self._owners = {
            target.name: owner_of(target, trainer.optimizers) for target in self.targets
        }
        for gradient in self._gradients:
            gradient.watch_weights()
        super().on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Arm the hooks of products, if the coming gradient is wanted.

        Args:
            trainer: the trainer.
            pl_module: the model.
            batch: not used.
            batch_idx: not used.
        """
        for gradient in self._gradients:
            gradient.wanted = self._wants(trainer.global_step, gradient.target)

    def on_before_optimizer_step(
        self, trainer: "Trainer", pl_module: "LightningModule", optimizer: Optimizer
    ) -> None:
        """Look at the matrices that this optimizer is about to step.

        Where nothing has a gradient, as when ``training_step`` returned None to skip a batch, it is
        no step.

        Args:
            trainer: the trainer.
            pl_module: the model.
            optimizer: which.
        """
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        if all(parameter.grad is None for parameter in parameters):
            return
        for gradient in self._gradients:
            target = gradient.target
            owner, group = self._owners[target.name]
            # several optimizers count global_step up within a batch: armed then, wanted now
            armed = gradient.wanted and self._wants(trainer.global_step, target)
            if owner is optimizer and armed:
                grad = gradient.take()
                if target.is_product:
                    grad = trainer.strategy.reduce(grad, reduce_op="mean")
                self._last[target.name] = trainer.global_step
                if trainer.is_global_zero:
                    self._observe(trainer, target, grad, group)

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Take the hooks off.

        Args:
            trainer: the trainer.
            pl_module: the model.
            stage: any.
        """
        self._unhook()

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Take the hooks off a model whose training ended early: no teardown follows.

        Args:
            trainer: the trainer.
            pl_module: the model.
            exception: any.
        """
        self._unhook()

    def _unhook(self) -> None:
        for gradient in self._gradients:
            gradient.remove()

    def _wants(self, step: int, target: Target) -> bool:
        """Tell whether the gradient of the step from ``step`` on is wanted; same on all ranks."""
        return self._is_due(step, target.name)

    def _observe(
        self, trainer: "Trainer", target: Target, grad: Tensor, group: dict[str, Any]
    ) -> None:
        """Look at one matrix and its gradient, about to be used; called on rank 0."""
        raise NotImplementedError
