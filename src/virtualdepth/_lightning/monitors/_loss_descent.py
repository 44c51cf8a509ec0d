"""Whether each step lowers the loss by as much as the convergence theorem guarantees."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._step_rule import StepRule
from virtualdepth.maths import STRUCTURES, check_finite, guaranteed_descent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer

# losses are sums of many rounded terms
_ROUNDING = 16


class LossDescentMixin(GradientMonitor):
    r"""Check by how much each step lowers the loss, and count the steps that lower it too little.

    .. math:: \ell(t+1) \le \ell(t) - \frac{\eta}{2}\, \sigma_{\min}(W(t))^{2(N-1)/N}\,
        \Bigl\|\frac{d\ell}{dW}(W(t))\Bigr\|_F^2

    With an imbalance the power is :math:`(t_{\min} + \lambda)^{N-1}`, and with another structure
    :math:`\sigma_{\min}` is the smallest size of a block: see
    :func:`virtualdepth.maths.guaranteed_descent`.

    A violation means that an assumption of the theorem fails. It assumes that the loss is
    :math:`\frac12\|W - \Phi\|_F^2` (squared error on whitened inputs, full batch: the losses of two
    mini-batches do not compare), that W(0) has a deficiency margin, that the factors are balanced,
    and that eta is small. N is the number of layers times the ``depth`` of their parameter group
    (1 unless an optimizer gives them depth).

    A step is a violation if the loss falls short of the bound by more than its rounding, 16 times
    its machine epsilon, or if the loss is NaN. The outcome of the last step is not known, nor that
    of a step beside a skipped batch.

    Logged after each step checked: ``descent/<layer>/violations`` (so far),
    ``descent/<layer>/decrease`` and ``descent/<layer>/guaranteed``.

    Cost: the singular values of one matrix per step checked, on rank 0, off the autograd graph; for
    a product also one m x n x samples product. A larger ``interval`` saves both.

    Args:
        layer: wildcard over names of modules that matches exactly one: the W of the loss.
        loss: which loss: "loss", what the training step returns, or the name of a logged metric
            where that is a sum over several models.
        interval: check the step after every ``interval``-th; 1 checks them all.

    Attributes:
        violations: how many of the steps checked lowered the loss too little.
        series: layer -> columns "step" (before which W and the gradient were taken), "decrease",
            "guaranteed".

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises ValueError where the pattern does not match one matrix or it has biases;
    :meth:`on_train_start` where its optimizer scales its steps.

    Source: arXiv 1810.02281, Lemma 1.

    >>> from virtualdepth.lightning import LossDescentMonitor
    >>> LossDescentMonitor("deep", loss="loss_deep")
    LossDescentMonitor(layer='deep', loss='loss_deep', interval=1)
    >>> LossDescentMonitor("deep").violations
    0
    """

    def __init__(self, layer: str = "*", *, loss: str = "loss", interval: int = 1) -> None:
        super().__init__(layer, interval=interval, figure=False, loss=loss)
        self.layer, self.loss = layer, loss

    def _reset(self) -> None:
        super()._reset()
        self.violations = 0
        # the step whose outcome the next loss will show: its number, the loss before it, the bound
        self._pending: tuple[int, float, float] | None = None
        self._guaranteed = math.nan  # known on rank 0 alone, and if W and the gradient are finite
        self._step = 0
        # of the batches that are accumulated; None for one without a loss
        self._losses: list[Tensor | None] = []

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        super()._prepare(trainer, pl_module)
        if len(self._watched) > 1:
            raise ValueError(
                f"layer: expected {self.layers!r} to match one matrix, that of the loss, but it "
                f"matches {[layer.name for layer in self._watched]}"
            )
        if any(layer.has_bias for layer in self._watched):
            raise ValueError(
                f"layer: expected {self._watched[0].name!r} without a bias: the lemma is about a "
                "loss of the end-to-end matrix alone; use bias=False"
            )

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Remember which step the batch is for."""
        self._step = trainer.global_step
        self._guaranteed = math.nan
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def _check_rule(self, rule: StepRule) -> None:
        rule.check_theory()

    def _observe(self, trainer: "Trainer", rule: StepRule, grad: Tensor) -> None:
        self._check_rule(rule)  # of a group that came, or was changed, during the run
        check_finite(grad, "gradient")
        kind = STRUCTURES[rule.structure]
        array = rule.layer.array()
        smallest = kind.sizes(array.flatten(1) if kind.of_matrices else array).amin()
        # of all blocks the norm is one; at infinite depth the bound needs the shape of a matrix
        grad = grad.flatten(1) if rule.structure == "matrix" else grad.reshape(1, -1)
        self._guaranteed = guaranteed_descent(
            smallest, grad, rule.depth, rule.lr, rule.imbalance
        ).item()

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Read the loss before this step, which shows how much the step before lowered it."""
        if not self._collectors or (self._pending is None and not self._collectors[0].wanted):
            return
        self._losses.append(self._loss_of(trainer, pl_module, outputs))
        if trainer.global_step == self._step:
            return  # batches are accumulated
        loss = self._mean_loss(trainer)
        self._losses.clear()
        if loss is None:  # what the steps around a skipped batch do to the loss is unknown
            self._pending = None
            return
        if self._pending is not None and trainer.is_global_zero:
            with self._never_ending_the_run(trainer, self._watched[0].name):
                self._check(trainer, *self._pending, loss)
        observed = self._last.get(self._watched[0].name) == self._step
        self._pending = (self._step, loss.item(), self._guaranteed) if observed else None

    def _mean_loss(self, trainer: "Trainer") -> Tensor | None:
        """Average the loss over the processes; None if one of them has skipped a batch."""
        losses = [loss for loss in self._losses if loss is not None]
        missing = torch.tensor(float(len(self._losses) - len(losses)))
        # all processes take part in the average, or none
        if trainer.strategy.reduce(missing.to(trainer.strategy.root_device), reduce_op="sum"):
            return None
        mean: Tensor = trainer.strategy.reduce(torch.stack(losses).sum(), reduce_op="mean")
        return mean

    def _loss_of(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any
    ) -> Tensor | None:
        returned = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if self.loss == "loss":
            # already divided by the number of batches accumulated
            return None if returned is None else returned.detach()
        if returned is None and pl_module.automatic_optimization:
            return None  # a skipped batch, which leaves the metrics of the one before
        metrics = trainer.callback_metrics
        if self.loss not in metrics:
            self._tell(
                "loss",
                f"loss: expected 'loss' or the name of a metric logged at each step, one of "
                f"{sorted(metrics)}, but got {self.loss!r}; steps without it are not checked",
            )
            return None
        return metrics[self.loss] / trainer.accumulate_grad_batches

    def _check(
        self, trainer: "Trainer", step: int, before: float, guaranteed: float, loss: Tensor
    ) -> None:
        if math.isnan(guaranteed):
            return
        decrease = before - loss.item()
        rounding = _ROUNDING * torch.finfo(loss.dtype).eps * abs(before)
        self.violations += not decrease >= guaranteed - rounding  # NaN and inf are violations too
        name = self._watched[0].name
        values = {"decrease": decrease, "guaranteed": guaranteed}
        self._append(name, {"step": step, **values})
        values["violations"] = self.violations
        self._log(trainer, step, f"descent/{name}", values)

    def figures(self) -> dict[str, "Figure"]:
        """Draw nothing: this monitor has no figure.

        Returns:
            An empty dictionary.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the series, the count and the pending step, for a checkpoint."""
        return {**super().state_dict(), "violations": self.violations, "pending": self._pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        self.violations, self._pending = state_dict["violations"], state_dict["pending"]
