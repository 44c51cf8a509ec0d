"""The singular values of a run beside those that theory predicts."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._interval_monitor import Series, check_count
from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth._lightning.monitors._predicted_components import PredictedComponents
from virtualdepth._lightning.monitors._predicted_spectrum import PredictedSpectrum, Prediction
from virtualdepth._lightning.monitors._singular_triples import curves_by_name, labels, largest
from virtualdepth._lightning.monitors._step_rule import StepRule, find_rule, owners_of
from virtualdepth._lightning.monitors._tensor_nodes import WatchedNode, find_nodes
from virtualdepth._lightning.monitors._weight_monitor import WeightMonitor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pytorch_lightning import LightningModule, Trainer


class DynamicsMixin(GradientMonitor, WeightMonitor):
    r"""Draw the predicted singular values over those of the run, and log the relative error.

    .. math:: \frac{d\sigma_r}{dt} = -N \sigma_r^{2-2/N} \langle G, u_r v_r^\top \rangle
        - N \mu \sigma_r

    G is the gradient of every step: the weight's ``grad`` for a single layer, dl/dW by hooks
    for the product of a :class:`virtualdepth.DeepLinear` or of an ``nn.Sequential`` of
    linear layers without biases. N is the number of layers times the ``depth`` of their parameter
    group (1 where it has none). mu is the group's weight decay; for the optimizers of
    :func:`virtualdepth.with_depth`, which decay W once, it is divided by the depth. A step takes
    the time lr.

    With an ``imbalance`` the gain is :math:`F'(t_r)` in place of :math:`N \sigma_r^{2-2/N}`, see
    :func:`virtualdepth.maths.singular_value_velocity`. With another ``structure`` the same law
    holds for the sizes of its blocks: norms of rows or columns, absolute entries, frequencies.
    Their names are their places, from 1 on. Both are read from the group of a layer, or from a
    DeepLinear.

    The components of a :class:`virtualdepth.CPTensor` and the local components of every node of a
    :class:`virtualdepth.HierarchicalTensor` (``tensor.0-1`` for the node of axes 0 and 1) have the
    law :func:`virtualdepth.maths.component_velocity`, of vectors of any norms; their names are
    their places too.

    The singular basis is renewed every ``interval`` steps; in between its effect on the gradients
    is interpolated linearly. The relative error of an interval is :math:`\|\Delta\sigma_{theory} -
    \Delta\sigma\| / \|\Delta\sigma\|`. It falls with the learning rate: it is of first order at
    ``interval=1``, where only the finite step separates the run from the flow. The equation is that
    of plain gradient descent: momentum, adaptive optimizers and unbalanced factors show as error.

    Singular triples are recognised by the overlap of their vectors. Logged at each record:
    ``dynamics/<layer>/relative_error`` and, for the ``top_k`` largest of the record,
    ``dynamics/<layer>/sigma_<name>`` and the prediction for it, ``dynamics/<layer>/theory_<name>``;
    the largest is named 1.
    When training ends, the figure ``dynamics/<layer>``.

    Cost: one thin SVD and four k x k products per layer and record, k = min(m, n), off the autograd
    graph; at each step two additions of an m x n matrix per layer, and for a product one m x n x
    samples product; memory: two bases and two m x n matrices per layer. On several processes dl/dW
    of a product is averaged over them at each step; rank 0 does the rest.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, products
            as a whole, and every node of a tensor, whose name ends with its axes.
        interval: optimizer steps between two records.
        top_k: how many singular values to log and draw.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "names", "sigma", "theory" (of those names),
            "relative_error" (of all singular values; NaN at the first record,
            and where a step of the interval could not be predicted: there theory follows the run).

    Raises:
        ValueError: if ``interval`` or ``top_k`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing or gradients are clipped. A
    layer that the equation does not describe is left out: a product with biases, or options of the
    optimizer such as ``step_scale`` other than "raw". Where none is left, :meth:`setup` or
    :meth:`on_train_start` raises ValueError.

    Source: arXiv 1905.13655, Theorem 3.

    >>> from virtualdepth.lightning import DynamicsMonitor
    >>> DynamicsMonitor("deep", top_k=3).interval
    50
    """

    _prefix = "dynamics"
    _legend_width = 0.14

    def __init__(
        self,
        layers: str | Sequence[str] = "*",
        *,
        interval: int = 50,
        top_k: int = 10,
        figure: bool = True,
    ) -> None:
        self.top_k = check_count(top_k, "top_k")
        super().__init__(layers, interval=interval, figure=figure, top_k=self.top_k)

    def _reset(self) -> None:
        super()._reset()
        self._predictions: dict[str, Prediction] = {}
        self._finite: dict[str, Tensor] = {}  # whether all gradients of the interval are finite

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.gradient_clip_val:
            raise ValueError(
                "gradient_clip_val: expected no clipping but got "
                f"{trainer.gradient_clip_val}: DynamicsMonitor sees gradients before they are "
                "clipped and would predict other steps than those taken"
            )
        super()._prepare(trainer, pl_module)
        self._keep_those_that_pass(_check_biases)

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the optimizer of each layer, refuse one that scales its steps, record the start."""
        for layer in self._watched:
            if layer.name in self._predictions:
                self._predictions[layer.name].to(layer.weights[0].device)
        super().on_train_start(trainer, pl_module)

    def _others(self, root: nn.Module) -> Sequence[WatchedLayer]:
        return find_nodes(root)

    def _check_rule(self, rule: StepRule) -> None:
        rule.check_theory()

    def _wants(self, step: int, layer: WatchedLayer) -> bool:
        return True  # the prediction adds up the gradients of all steps

    def _observe(self, trainer: "Trainer", rule: StepRule, grad: Tensor) -> None:
        name = rule.layer.name
        self._check_rule(rule)  # of a group that came, or was changed, during the run
        # read at the next record: the steps do not wait for a device
        finite = torch.isfinite(grad).all()
        self._finite[name] = self._finite.get(name, finite) & finite
        grad = torch.where(finite, grad, 0.0)
        downhill = -grad if rule.ascends else grad
        self._prediction_of(rule).add_step(downhill, rule.lr, rule.decay)

    def _miss(self, rule: StepRule) -> None:
        self._prediction_of(rule).miss_step()

    def _prediction_of(self, rule: StepRule) -> Prediction:
        """Return the prediction of a layer; a new one where its structure has changed."""
        name, structure = rule.layer.name, rule.structure
        found = self._predictions.get(name)
        if isinstance(rule.layer, WatchedNode):
            if found is None:
                found = self._predictions[name] = PredictedComponents()
        elif not isinstance(found, PredictedSpectrum) or found.structure != structure:
            found = self._predictions[name] = PredictedSpectrum(structure)
        return found

    def _record(self, trainer: "Trainer") -> None:
        owners = owners_of(trainer.optimizers)
        for layer in self._watched:
            with self._never_ending_the_run(trainer, layer.name):
                rule = find_rule(layer, owners)
                if rule is not None:
                    self._record_layer(trainer, rule)

    def _record_layer(self, trainer: "Trainer", rule: StepRule) -> None:
        step, layer = trainer.global_step, rule.layer
        self._check_rule(rule)
        if not self._finite.pop(layer.name, True):
            self._tell(
                f"gradients of {layer.name}",
                f"a gradient of {layer.name!r} before step {step} is not finite; the prediction "
                "takes it for no step",
            )
        prediction = self._prediction_of(rule)
        found = prediction.compare(layer.array(), rule.depth, rule.imbalance)
        places = largest(found.sigma, self.top_k)
        sigma, theory = found.sigma[places].tolist(), found.theory[places].tolist()
        names = labels(places, prediction.structure)
        error = found.relative_error
        row = {"step": step, "names": names, "sigma": sigma, "theory": theory}
        self._append(layer.name, {**row, "relative_error": error})
        values = {f"sigma_{name}": value for name, value in zip(names, sigma, strict=True)}
        values |= {f"theory_{name}": value for name, value in zip(names, theory, strict=True)}
        if not math.isnan(error):
            values["relative_error"] = error
        self._log(trainer, step, f"dynamics/{layer.name}", values)

    def _draw(self, ax: "Axes", name: str, series: Series) -> None:
        from virtualdepth import plotting

        curves = curves_by_name(series["names"], series["sigma"])
        theory = curves_by_name(series["names"], series["theory"])
        prediction = self._predictions[name]
        structure = prediction.structure
        plotting.plot_singular_values(ax, series["step"], curves, theory, structure=structure)
        if isinstance(prediction, PredictedComponents):
            ax.set_ylabel("norm of a component")

    def state_dict(self) -> dict[str, Any]:
        """Return the series, the bases and the sums of the current interval, for a checkpoint."""
        predictions = {name: part.state_dict() for name, part in self._predictions.items()}
        return {**super().state_dict(), "predictions": predictions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        for name, state in state_dict["predictions"].items():
            kind = PredictedComponents if "norms" in state else PredictedSpectrum
            self._predictions[name] = kind()
            self._predictions[name].load_state_dict(state)


def _check_biases(layer: WatchedLayer) -> None:
    if layer.is_product and layer.has_bias:
        raise ValueError(
            f"layers: expected layers without biases in the product {layer.name!r}: the gradients "
            "of inner biases move the factors too; use bias=False, or watch the layers one by one"
        )
