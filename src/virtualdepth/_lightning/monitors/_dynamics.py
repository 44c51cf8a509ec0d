"""The singular values of a run beside what theory predicts for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._base import WeightMonitor, check_count
from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._gradients import (
    decay_of,
    depth_of,
    refuse_other_rules,
)
from virtualdepth._lightning.monitors._prediction import Prediction
from virtualdepth._lightning.monitors._targets import Target
from virtualdepth._lightning.monitors._tracking import by_name, largest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer


class DynamicsMixin(GradientMonitor, WeightMonitor):
    r"""Draw theory's singular values over those of the run, and log the relative error.

    .. math:: \frac{d\sigma_r}{dt} = -N \sigma_r^{2-2/N} \langle G, u_r v_r^\top \rangle
        - N \lambda \sigma_r

    G is the gradient of every step: the weight's ``grad`` for a single layer, dl/dW by hooks
    for the product of a :class:`virtualdepth.DeepLinear` or of an ``nn.Sequential`` of
    linear layers without biases. N is the number of layers times the ``depth`` of their parameter
    group (1 where it has none), lambda the group's weight decay (over the depth for
    :func:`virtualdepth.with_depth`, whose optimizers decay W once), a step takes the time lr.

    The singular basis is renewed every ``interval`` steps; in between its effect on the gradients
    is interpolated linearly. The relative error of an interval is :math:`\|\Delta\sigma_{theory} -
    \Delta\sigma\| / \|\Delta\sigma\|`. It falls with the learning rate: of first order at
    ``interval=1``, where only the finite step separates the run from the flow. The equation is that
    of plain gradient descent: momentum, adaptive optimizers and unbalanced factors show as error.

    Singular triples are followed by the overlap of their vectors; names are places in the first
    spectrum recorded. Logged at each record: ``dynamics/<layer>/relative_error`` and, for the
    ``top_k`` largest, ``dynamics/<layer>/sigma_<name>`` and ``dynamics/<layer>/theory_<name>``.
    When training ends, the figure ``dynamics/<layer>``.

    Cost: one thin SVD and four k x k products per layer and record, k = min(m, n), off the autograd
    graph; at each step two additions of an m x n matrix per layer, and for a product one m x n x
    samples product; memory: two bases and two m x n matrices per layer. On several processes dl/dW
    of a product is averaged over them at each step, all else is rank 0's.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, products as
            a whole.
        interval: optimizer steps between two records.
        top_k: how many singular values to log and draw.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "names", "sigma", "theory" (of those names),
            "relative_error" (of all singular values; NaN at the first record).

    Raises:
        ValueError: if ``interval`` or ``top_k`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing, a product has biases, or
    gradients are clipped; :meth:`on_train_start` where a matrix is in no optimizer or its
    optimizer scales its steps (``step_scale`` other than "raw").

    Source: arXiv 1905.13655, Theorem 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] = "*",
        *,
        interval: int = 50,
        top_k: int = 10,
        figure: bool = True,
    ) -> None:
        super().__init__(layers, interval=interval, figure=figure)
        self.top_k = check_count(top_k, "top_k")

    def _reset(self) -> None:
        super()._reset()
        self._predictions: dict[str, Prediction] = {}

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.gradient_clip_val:
            raise ValueError(
                "gradient_clip_val: expected no clipping but got "
                f"{trainer.gradient_clip_val}: DynamicsMonitor sees gradients before they are "
                "clipped and would predict other steps than those taken"
            )
        super()._prepare(trainer, pl_module)
        for target in self.targets:
            if target.is_product and target.has_bias:
                raise ValueError(
                    f"layers: expected layers without biases in the product {target.name!r}: the "
                    "gradients of inner biases move the factors too; use bias=False, or watch the "
                    "layers one by one"
                )

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the optimizer of each matrix, and record the start.

        Args:
            trainer: the trainer.
            pl_module: the model.

        Raises:
            ValueError: if a matrix is in no optimizer, or its steps are scaled.
        """
        for target in self.targets:
            if target.name in self._predictions:
                self._predictions[target.name].to(target.weights[0].device)
        super().on_train_start(trainer, pl_module)
        for target in self.targets:
            refuse_other_rules(target, self._owners[target.name][1])

    def _wants(self, step: int, target: Target) -> bool:
        return True

    def _observe(
        self, trainer: "Trainer", target: Target, grad: Tensor, group: dict[str, Any]
    ) -> None:
        prediction = self._predictions[target.name]
        grad = -grad if group.get("maximize") else grad
        prediction.add(
            grad, float(group["lr"]), decay_of(target, self._owners[target.name][0], group)
        )

    def _record(self, trainer: "Trainer") -> None:
        step = trainer.global_step
        for target in self.targets:
            prediction = self._predictions.setdefault(target.name, Prediction())
            depth = depth_of(target, self._owners[target.name][1])
            outcome = prediction.look(target.matrix(), depth)
            names = largest(outcome.sigma, self.top_k)
            sigma, theory = outcome.sigma[names].tolist(), outcome.theory[names].tolist()
            names = [name + 1 for name in names]
            error = outcome.relative_error
            row = {"step": step, "names": names, "sigma": sigma, "theory": theory}
            self._append(target.name, {**row, "relative_error": error})
            values = {f"sigma_{name}": value for name, value in zip(names, sigma, strict=True)}
            values |= {f"theory_{name}": value for name, value in zip(names, theory, strict=True)}
            if error == error:
                values["relative_error"] = error
            prefix = f"dynamics/{target.name}"
            self._log(trainer, step, {f"{prefix}/{key}": value for key, value in values.items()})

    def figures(self) -> dict[str, "Figure"]:
        """Draw measured and predicted singular values of each layer.

        Returns:
            ``dynamics/<layer>``.
        """
        from virtualdepth import plotting

        found = {}
        for name, series in self.series.items():
            figure, ax = new_figure(name, beside=0.14)
            curves = by_name(series["names"], series["sigma"])
            theory = by_name(series["names"], series["theory"])
            plotting.plot_singular_values(ax, series["step"], curves, theory)
            found[f"dynamics/{name}"] = figure
        return found

    def state_dict(self) -> dict[str, Any]:
        """Hand series, bases and the sums of an interval begun to a checkpoint.

        Returns:
            Plain numbers, lists and tensors.
        """
        predictions = {name: part.state_dict() for name, part in self._predictions.items()}
        return {**super().state_dict(), "predictions": predictions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take all of it up where a checkpoint left it.

        Args:
            state_dict: what :meth:`state_dict` returned.
        """
        super().load_state_dict(state_dict)
        for name, state in state_dict["predictions"].items():
            self._predictions[name] = Prediction()
            self._predictions[name].load_state_dict(state)
