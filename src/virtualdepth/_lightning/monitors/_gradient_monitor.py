"""What the monitors of gradients share: W and dl/dW of each layer before an optimizer step."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from virtualdepth._lightning.monitors._gradient_collector import GradientCollector
from virtualdepth._lightning.monitors._interval_monitor import IntervalMonitor, listed
from virtualdepth._lightning.monitors._layers import WatchedLayer, find_layers, refuse_sharded
from virtualdepth._lightning.monitors._step_rule import StepRule, find_rule, owners_of
from virtualdepth.maths import widened
from virtualdepth.networks import DeepLinear

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class GradientMonitor(IntervalMonitor):
    """Look at weights and gradients together, as the optimizer is about to use them.

    Under gradient accumulation and over several processes the gradient is that of the whole batch.
    It is taken before clipping. A step in which a layer has no gradient, because it is frozen, not
    used or skipped, passes it by.
    """

    def __init__(
        self, layers: str | Sequence[str], *, interval: int, figure: bool, **options: Any
    ) -> None:
        super().__init__(interval=interval, figure=figure, layers=layers, **options)
        self.layers = layers
        self._collectors: list[GradientCollector] = []

    @property
    def _watched(self) -> list[WatchedLayer]:
        return [collector.layer for collector in self._collectors]

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        layers = find_layers(pl_module, self.layers, others=self._others(pl_module))
        if layers and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"precision: expected unscaled gradients of {layers[0].name!r} but got float16 "
                "with loss scaling; use precision='bf16-mixed'"
            )
        self._remove_hooks()
        self._collectors = [
            GradientCollector(layer, in_one_graph=_is_in_one_graph(layer, pl_module))
            for layer in layers
        ]
        self._keep_those_that_pass(_check_signals)

    def _others(self, root: nn.Module) -> Sequence[WatchedLayer]:
        """List what can be watched besides layers."""
        return ()

    def _check_rule(self, rule: StepRule) -> None:
        """Refuse a layer whose steps are not those that the monitor is about."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Refuse what cannot be watched."""
        refuse_sharded(self._watched)
        owners = owners_of(trainer.optimizers)

        def check(layer: WatchedLayer) -> None:
            rule = find_rule(layer, owners)
            if rule is not None:  # else it may be trained later
                self._check_rule(rule)

        self._keep_those_that_pass(check)
        super().on_train_start(trainer, pl_module)

    def _keep_those_that_pass(self, check: Callable[[WatchedLayer], None]) -> None:
        """Leave out the layers that a check refuses; if it refuses all, raise its error."""
        kept, errors = [], []
        for collector in self._collectors:
            try:
                check(collector.layer)
                kept.append(collector)
            except ValueError as error:
                errors.append(error)
                collector.remove()
        if errors and not kept:
            raise errors[0]
        for reason in map(str, errors):
            self._tell(reason, f"one layer is left out: {reason}")
        self._collectors = kept

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Collect the gradients of this batch if they are wanted."""
        for collector in self._collectors:
            with self._never_ending_the_run(trainer, collector.layer.name):
                collector.want(self._wants(trainer.global_step, collector.layer))

    def on_before_optimizer_step(
        self, trainer: "Trainer", pl_module: "LightningModule", optimizer: Optimizer
    ) -> None:
        """Look at the layers that this optimizer is about to step."""
        # several optimizers raise global_step within a batch: wanted as it began, and now
        wanted = [
            collector
            for collector in self._collectors
            if collector.wanted and self._wants(trainer.global_step, collector.layer)
        ]
        owners = owners_of(trainer.optimizers) if wanted else {}
        for collector in wanted:
            with self._never_ending_the_run(trainer, collector.layer.name):
                rule = find_rule(collector.layer, owners)
                if rule is not None and rule.optimizer is optimizer:
                    self._look(trainer, rule, collector)

    def _look(self, trainer: "Trainer", rule: StepRule, collector: GradientCollector) -> None:
        try:
            grad = _take(trainer, rule.layer, collector)
            if grad is None:
                return
            self._last[rule.layer.name] = trainer.global_step
            if trainer.is_global_zero:
                self._observe(trainer, rule, grad)
        except Exception:
            self._miss(rule)
            raise

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Tell of the layers that no gradient has reached."""
        missing = [layer.name for layer in self._watched if layer.name not in self._last]
        if missing and trainer.global_step > 0 and trainer.is_global_zero:
            self._tell(
                "gradients",
                f"no record of {listed(missing)}: no gradient reached an optimizer step; the layer "
                "is frozen, not used, compiled in one graph, or multiplied by the model itself",
            )
        super().on_train_end(trainer, pl_module)

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
        """Look at ``rule.layer`` and its gradient, shaped as W; called on rank 0."""
        raise NotImplementedError

    def _miss(self, rule: StepRule) -> None:
        """Learn of a step that could not be looked at."""


def _check_signals(layer: WatchedLayer) -> None:
    if isinstance(layer.module, DeepLinear) and layer.module.signal_size:
        raise ValueError(
            f"signal_size: expected None but got {layer.module.signal_size} (layer "
            f"{layer.name!r}): the gradient of the kernel is not known from inputs "
            "and outputs; leave the layer out"
        )


def _is_in_one_graph(layer: WatchedLayer, root: "LightningModule") -> bool:
    """Tell whether torch.compile(fullgraph=True) compiles a layer with what is around it."""
    # Lightning takes the compiler's module off the model, and keeps what was in it
    contexts = [(getattr(root, "_compiler_ctx", None) or {}).get("dynamo_ctx")]
    for module in root.modules():
        if hasattr(module, "dynamo_ctx") and any(each is layer.module for each in module.modules()):
            contexts.append(module.dynamo_ctx)
    return any(getattr(context, "fullgraph", False) for context in contexts)


def _take(trainer: "Trainer", layer: WatchedLayer, collector: GradientCollector) -> Tensor | None:
    """Take dl/dW, averaged over the processes; one that has not used W counts as zero."""
    if not layer.is_product or trainer.world_size == 1:
        return collector.take()
    grad, error = None, None
    try:
        grad = collector.take()
    except Exception as caught:  # the other processes wait for this one
        error = caught
    # all processes have to take part in an average, or none
    counts = torch.tensor([grad is not None, error is not None], dtype=torch.float32)
    used, failed = trainer.strategy.reduce(
        counts.to(layer.weights[0].device), reduce_op="sum"
    ).tolist()
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(f"the gradient of {layer.name!r} is not known on {failed:.0f} processes")
    if not used:
        return None
    if grad is None:
        grad = widened(torch.zeros_like(layer.array()))
    mean: Tensor = trainer.strategy.reduce(grad, reduce_op="mean")
    return mean
