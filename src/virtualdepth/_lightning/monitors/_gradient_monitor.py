"""What the monitors of gradients share: W and dl/dW of each layer before an optimizer step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from virtualdepth._lightning.monitors._gradient_collector import GradientCollector
from virtualdepth._lightning.monitors._interval_monitor import IntervalMonitor
from virtualdepth._lightning.monitors._layers import WatchedLayer, find_layers, refuse_sharded
from virtualdepth._lightning.monitors._step_rule import StepRule, find_rule

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class GradientMonitor(IntervalMonitor):
    """Look at weights and gradients together, as the optimizer is about to use them.

    Under gradient accumulation and over several processes the gradient is that of the whole batch.
    It is taken before clipping.
    """

    def __init__(self, layers: str | Sequence[str], *, interval: int, figure: bool) -> None:
        super().__init__(interval=interval, figure=figure, layers=layers)
        self.layers = layers
        self._collectors: list[GradientCollector] = []
        self._rules: dict[str, StepRule] = {}  # by the layer's name

    @property
    def _watched(self) -> list[WatchedLayer]:
        return [collector.layer for collector in self._collectors]

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        layers = find_layers(pl_module, self.layers)
        if layers and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"precision: expected unscaled gradients of {layers[0].name!r} but got float16 "
                "with loss scaling; use precision='bf16-mixed'"
            )
        self._remove_hooks()
        self._collectors = [GradientCollector(layer) for layer in layers]

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the optimizer of each layer."""
        refuse_sharded(self._watched)
        self._rules = {layer.name: find_rule(layer, trainer.optimizers) for layer in self._watched}
        for collector in self._collectors:
            collector.watch_weights()
        super().on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Collect the gradients of this batch if they are wanted."""
        for collector in self._collectors:
            collector.wanted = self._wants(trainer.global_step, collector.layer)

    def on_before_optimizer_step(
        self, trainer: "Trainer", pl_module: "LightningModule", optimizer: Optimizer
    ) -> None:
        """Look at the layers that this optimizer is about to step."""
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        if all(parameter.grad is None for parameter in parameters):
            return  # no step: training_step returned None to skip a batch
        for collector in self._collectors:
            layer = collector.layer
            rule = self._rules[layer.name]
            # several optimizers raise global_step within a batch: wanted as it began, and now
            wanted = collector.wanted and self._wants(trainer.global_step, layer)
            if rule.optimizer is optimizer and wanted:
                grad = collector.take()
                if layer.is_product:
                    grad = trainer.strategy.reduce(grad, reduce_op="mean")
                self._last[layer.name] = trainer.global_step
                if trainer.is_global_zero:
                    self._observe(trainer, rule, grad)

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Take the hooks off the model."""
        self._remove_hooks()

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Take the hooks off a model whose training ended early: no teardown follows."""
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        for collector in self._collectors:
            collector.remove()

    def _wants(self, step: int, layer: WatchedLayer) -> bool:
        """Tell whether the gradient of the step after ``step`` is wanted; same on all ranks."""
        return self._is_due(step, layer.name)

    def _observe(self, trainer: "Trainer", rule: StepRule, grad: Tensor) -> None:
        """Look at ``rule.layer`` and its gradient, (m, n), about to be used; called on rank 0."""
        raise NotImplementedError
