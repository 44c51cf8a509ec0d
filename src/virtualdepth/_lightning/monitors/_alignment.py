"""How far the gradient is diagonal in the singular basis of the weights, over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._interval_monitor import Series
from virtualdepth._lightning.monitors._step_rule import StepRule
from virtualdepth.maths import check_finite, gradient_alignment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pytorch_lightning import Trainer


class AlignmentMixin(GradientMonitor):
    r"""Log the mean diagonal and off-diagonal entries of :math:`U^\top G V` of chosen matrices.

    W = U S V^T is the matrix before a step and G = dl/dW its gradient: the weight's ``grad`` for a
    single layer, by hooks for the product of a :class:`virtualdepth.DeepLinear` or of an
    ``nn.Sequential`` of linear layers. Where the off-diagonal entries vanish, singular vectors do
    not move, and the equations for singular values alone describe the run (arXiv 1905.13655).

    Logged before every ``interval``-th optimizer step: ``alignment/<layer>/diagonal`` and
    ``alignment/<layer>/off_diagonal``, the mean absolute entries that
    :func:`virtualdepth.maths.gradient_alignment` returns. When training ends, the figure
    ``alignment/<layer>``.

    The gradient is that of the whole batch over accumulation and processes, before clipping.

    Cost: one thin SVD and two k x k products per layer and record, k = min(m, n), on rank 0, off
    the autograd graph; for a product also one m x n x samples product.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, and products
            as a whole.
        interval: optimizer steps between two records.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "diagonal", "off_diagonal".

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing. A layer with another
    ``structure`` than "matrix" is left out, and the user is told once; where none is left,
    :meth:`on_train_start` raises ValueError.

    >>> from virtualdepth.lightning import AlignmentMonitor
    >>> AlignmentMonitor("head", interval=100).layers
    'head'
    """

    _prefix = "alignment"

    def __init__(
        self, layers: str | Sequence[str] = "*", *, interval: int = 50, figure: bool = True
    ) -> None:
        super().__init__(layers, interval=interval, figure=figure)

    def _check_rule(self, rule: StepRule) -> None:
        rule.check_matrix()

    def _observe(self, trainer: "Trainer", rule: StepRule, grad: Tensor) -> None:
        step, layer = trainer.global_step, rule.layer
        self._check_rule(rule)  # of a group that came, or was changed, during the run
        check_finite(grad, "gradient")
        diagonal, off_diagonal = gradient_alignment(layer.matrix(), grad.flatten(1))
        values = {"diagonal": diagonal.item(), "off_diagonal": off_diagonal.item()}
        self._append(layer.name, {"step": step, **values})
        self._log(trainer, step, f"alignment/{layer.name}", values)

    def _draw(self, ax: "Axes", name: str, series: Series) -> None:
        from virtualdepth import plotting

        plotting.plot_alignment(ax, series["step"], series["diagonal"], series["off_diagonal"])
