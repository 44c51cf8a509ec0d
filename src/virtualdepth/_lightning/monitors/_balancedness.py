"""How far the layers of a product are from balance, over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._base import LayerMonitor
from virtualdepth.maths import balancedness, relative_balancedness

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


class BalancednessMixin(LayerMonitor):
    r"""Log each pair's defect, :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F`, of products.

    A product is a :class:`virtualdepth.DeepLinear` or an ``nn.Sequential`` of linear layers.
    Gradient flow keeps the defects as they are, gradient descent moves them by O(lr^2) a step;
    theory asks for small ones.

    Logged every ``interval`` optimizer steps, and at the start and the end:
    ``balance/<layer>/pair_<j>``, and ``balance/<layer>/relative_<j>``, divided by
    :math:`\|W_{j+1}\|_F^2 + \|W_j\|_F^2`. When training ends, the figure ``balance/<layer>``
    of the relative ones.

    Cost: four products of a layer with itself per pair and record, on rank 0, off the autograd
    graph; no decomposition.

    Args:
        layers: wildcards over names of products, one or several.
        interval: optimizer steps between two records.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "absolute", "relative", one number per pair in each.

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches no product.
    """

    def __init__(
        self, layers: str | Sequence[str] = "*", *, interval: int = 50, figure: bool = True
    ) -> None:
        super().__init__(layers, products_only=True, interval=interval, figure=figure)

    def _record(self, trainer: "Trainer") -> None:
        step = trainer.global_step
        for target in self._targets:
            factors = target.factors()
            absolute = balancedness(factors).tolist()
            relative = relative_balancedness(factors).tolist()
            self._append(target.name, {"step": step, "absolute": absolute, "relative": relative})
            values = {}
            for pair, defects in enumerate(zip(absolute, relative, strict=True), start=1):
                values[f"balance/{target.name}/pair_{pair}"] = defects[0]
                values[f"balance/{target.name}/relative_{pair}"] = defects[1]
            self._log(trainer, step, values)

    def figures(self) -> dict[str, "Figure"]:
        """Draw the relative defects of each product.

        Returns:
            ``balance/<layer>``.
        """
        from virtualdepth import plotting

        found = {}
        for name, series in self.series.items():
            figure, ax = new_figure(name)
            plotting.plot_balancedness(ax, series["step"], series["relative"])
            found[f"balance/{name}"] = figure
        return found
