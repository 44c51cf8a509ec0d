"""What the monitors of weights share: a record every so many steps, at the start and at the end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from virtualdepth._lightning.monitors._interval_monitor import IntervalMonitor
from virtualdepth._lightning.monitors._layers import WatchedLayer, find_layers, refuse_sharded

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class WeightMonitor(IntervalMonitor):
    """Record the weights every ``interval`` steps, at the start and at the end."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Record the start."""
        super().on_train_start(trainer, pl_module)
        if self._is_due(trainer.global_step):
            self._record_once(trainer)

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the weights if an optimizer step has made it due."""
        if self._is_due(trainer.global_step):
            self._record_once(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Record the end, and log the figures."""
        if self._last.get("") != trainer.global_step:
            self._record_once(trainer)
        super().on_train_end(trainer, pl_module)

    def _record_once(self, trainer: "Trainer") -> None:
        self._last[""] = trainer.global_step
        if trainer.is_global_zero:
            self._record(trainer)

    def _record(self, trainer: "Trainer") -> None:
        """Measure, append to the series and log; called on rank 0."""
        raise NotImplementedError


class LayerMonitor(WeightMonitor):
    """Record the weights of chosen layers, or of products only."""

    def __init__(
        self,
        layers: str | Sequence[str],
        *,
        products_only: bool,
        interval: int,
        figure: bool,
        **options: Any,
    ) -> None:
        super().__init__(interval=interval, figure=figure, layers=layers, **options)
        self.layers = layers
        self._products_only = products_only
        self._watched: list[WatchedLayer] = []

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._watched = find_layers(pl_module, self.layers, products_only=self._products_only)

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Refuse sharded weights, and record the start."""
        refuse_sharded(self._watched)
        super().on_train_start(trainer, pl_module)

    def _record(self, trainer: "Trainer") -> None:
        for layer in self._watched:
            with self._never_ending_the_run(trainer, layer.name):
                self._record_layer(trainer, layer)

    def _record_layer(self, trainer: "Trainer", layer: WatchedLayer) -> None:
        """Measure one layer, append to the series and log; called on rank 0."""
        raise NotImplementedError
