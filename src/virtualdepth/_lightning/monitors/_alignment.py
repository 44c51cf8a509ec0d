"""How far the gradient is diagonal in the singular basis of the weights, over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._gradient_monitor import GradientMonitor
from virtualdepth._lightning.monitors._targets import Target
from virtualdepth.maths import gradient_alignment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


class AlignmentMixin(GradientMonitor):
    r"""Log the diagonal against the off-diagonal entries of :math:`U^\top G V` of chosen matrices.

    W = U S V^T is the matrix before a step and G = dl/dW: the weight's ``grad`` for a single layer,
    by hooks for the product of a :class:`virtualdepth.DeepLinear` or of an
    ``nn.Sequential`` of linear layers. Where the off-diagonal vanishes, singular vectors stand
    still and theory's equations for singular values alone describe the run (arXiv 1905.13655).

    Logged before every ``interval``-th optimizer step: ``alignment/<layer>/diagonal`` and
    ``alignment/<layer>/off_diagonal``, mean absolute entries as of
    :func:`virtualdepth.maths.gradient_alignment`. When training ends, the figure
    ``alignment/<layer>``.

    Gradients are those of the whole batch over accumulation and processes, before clipping.

    Cost: one thin SVD and two k x k products per layer and record, k = min(m, n), on rank 0, off
    the autograd graph; for a product also one m x n x samples product.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, products as
            a whole.
        interval: optimizer steps between two records.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "diagonal", "off_diagonal".

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing, :meth:`on_train_start` where a
    matrix is in no optimizer.
    """

    def __init__(
        self, layers: str | Sequence[str] = "*", *, interval: int = 50, figure: bool = True
    ) -> None:
        super().__init__(layers, interval=interval, figure=figure)

    def _observe(
        self, trainer: "Trainer", target: Target, grad: Tensor, group: dict[str, Any]
    ) -> None:
        step = trainer.global_step
        diagonal, off_diagonal = (
            value.item() for value in gradient_alignment(target.matrix(), grad)
        )
        values = {"diagonal": diagonal, "off_diagonal": off_diagonal}
        self._append(target.name, {"step": step, **values})
        prefix = f"alignment/{target.name}"
        self._log(trainer, step, {f"{prefix}/{key}": value for key, value in values.items()})

    def figures(self) -> dict[str, "Figure"]:
        """Draw both sizes for each layer.

        Returns:
            ``alignment/<layer>``.
        """
        from virtualdepth import plotting

        found = {}
        for name, series in self.series.items():
            figure, ax = new_figure(name)
            steps, diagonal, beside = series["step"], series["diagonal"], series["off_diagonal"]
            plotting.plot_alignment(ax, steps, diagonal, beside)
            found[f"alignment/{name}"] = figure
        return found
