"""Whether each step takes off the loss what the convergence theorem says."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._gradients import depth_of, refuse_other_rules
from virtualdepth._lightning.monitors._targets import Target
from virtualdepth.maths import guaranteed_descent, singular_values

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

# losses are sums of many rounded terms
_ROUNDING = 16


class LossDescentMixin(GradientMonitor):
    r"""Check at each step what it takes off the loss, and count the steps that take too little.

    .. math:: \ell(t+1) \le \ell(t) - \frac{\eta}{2}\, \sigma_{\min}(W(t))^{2(N-1)/N}\,
        \Bigl\|\frac{d\ell}{dW}(W(t))\Bigr\|_F^2

    A violation means that an assumption fails: the loss is :math:`\frac12\|W - \Phi\|_F^2` (squared
    error on whitened inputs, full batch: losses of two mini-batches do not compare), W(0) has a
    deficiency margin, factors are balanced, eta is small. N is the number of layers times the
    ``depth`` of their parameter group (1 but for EndToEndSGD).

    A step is a violation if it takes less off than the bound by more than the rounding of the loss,
    16 times its machine epsilon, or if the loss is NaN. The outcome of the last step is not known.

    Logged after each step checked: ``descent/<layer>/violations`` (so far),
    ``descent/<layer>/decrease`` and ``descent/<layer>/guaranteed``.

    Cost: the singular values of one matrix per step checked, on rank 0, off the autograd graph; for
    a product also one m x n x samples product. ``interval`` spares both.

    Args:
        layer: wildcard over names of modules that matches exactly one: the W of the loss.
        loss: which loss: "loss", what the training step returns, or the name of a logged metric
            where that is a sum over several models.
        interval: check the step after every ``interval``-th; 1 checks them all.

    Attributes:
        violations: how many of the steps checked took too little off.
        series: layer -> columns "step" (before which W and gradient were taken), "decrease",
            "guaranteed".

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises ValueError where the pattern does not match one matrix or it has biases.

    Source: arXiv 1810.02281, Lemma 1.
    """

    def __init__(self, layer: str = "*", *, loss: str = "loss", interval: int = 1) -> None:
        super().__init__(layer, interval=interval, figure=False)
        self.loss = loss

    def _reset(self) -> None:
        super()._reset()
        self.violations = 0
        # the step whose outcome the next loss will show: its number, the loss before it, the bound
        self._pending: tuple[int, float, float] | None = None
        self._guaranteed = math.nan  # known on rank 0 alone
        self._step = 0
        self._losses: list[Tensor] = []  # of the batches that are accumulated

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        super()._prepare(trainer, pl_module)
        if len(self.targets) != 1:
            raise ValueError(
                f"layer: expected {self.layers!r} to match one matrix, that of the loss, but it "
                f"matches {[target.name for target in self.targets]}"
            )
        if self.targets[0].has_bias:
            raise ValueError(
                f"layer: expected {self.targets[0].name!r} without a bias: the lemma is on a "
                "loss of the end-to-end matrix alone; use bias=False"
            )

    def _observe(
        self, trainer: "Trainer", target: Target, grad: Tensor, group: dict[str, Any]
    ) -> None:
        smallest = singular_values(target.matrix())[-1]
        depth = depth_of(target, group)
        self._guaranteed = guaranteed_descent(smallest, grad, depth, float(group["lr"])).item()

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the optimizer of the matrix.

        Args:
            trainer: the trainer.
            pl_module: the model.

        Raises:
            ValueError: if the matrix is in no optimizer, or its steps are scaled.
        """
        super().on_train_start(trainer, pl_module)
        refuse_other_rules(self.targets[0], self._owners[self.targets[0].name][1])

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Remember which step the batch is for.

        Args:
            trainer: the trainer.
            pl_module: the model.
            batch: not used.
            batch_idx: not used.
        """
        self._step = trainer.global_step
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Read the loss before this step: it shows what the step before took off.

        Args:
            trainer: the trainer.
            pl_module: the model.
            outputs: what the training step returned.
            batch: not used.
            batch_idx: not used.
        """
        if self._pending is None and not self._gradients[0].wanted:
            return
        self._losses.append(self._loss_of(trainer, outputs))
        if trainer.global_step == self._step:
            return
        loss: Tensor = trainer.strategy.reduce(torch.stack(self._losses).sum(), reduce_op="mean")
        self._losses.clear()
        if self._pending is not None and trainer.is_global_zero:
            self._check(trainer, *self._pending, loss)
        observed = self._last.get(self.targets[0].name) == self._step
        self._pending = (self._step, loss.item(), self._guaranteed) if observed else None

    def _loss_of(self, trainer: "Trainer", outputs: Any) -> Tensor:
        if self.loss == "loss":
            if not isinstance(outputs, Mapping) or outputs.get("loss") is None:
                raise ValueError("loss: expected training_step to return a loss but got none")
            value: Tensor = outputs["loss"]  # already divided by the number of batches accumulated
            return value.detach()
        metrics = trainer.callback_metrics
        if self.loss not in metrics:
            raise ValueError(
                f"loss: expected 'loss' or the name of a metric logged at each step, one of "
                f"{sorted(metrics)}, but got {self.loss!r}"
            )
        return metrics[self.loss] / trainer.accumulate_grad_batches

    def _check(
        self, trainer: "Trainer", step: int, before: float, guaranteed: float, loss: Tensor
    ) -> None:
        decrease = before - loss.item()
        rounding = _ROUNDING * torch.finfo(loss.dtype).eps * abs(before)
        self.violations += not decrease >= guaranteed - rounding  # NaN and inf are violations too
        name = self.targets[0].name
        values = {"decrease": decrease, "guaranteed": guaranteed}
        self._append(name, {"step": step, **values})
        values["violations"] = self.violations
        logged = {f"descent/{name}/{key}": value for key, value in values.items()}
        self._log(trainer, step, logged)

    def state_dict(self) -> dict[str, Any]:
        """Hand series, count and the step begun to a checkpoint.

        Returns:
            Plain numbers and lists.
        """
        return {**super().state_dict(), "violations": self.violations, "pending": self._pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take all of it up where a checkpoint left it.

        Args:
            state_dict: what :meth:`state_dict` returned.
        """
        super().load_state_dict(state_dict)
        self.violations, self._pending = state_dict["violations"], state_dict["pending"]
