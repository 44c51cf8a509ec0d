"""How far the layers of a product are from balance, over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtualdepth._lightning.monitors._interval_monitor import Series
from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth._lightning.monitors._weight_monitor import LayerMonitor
from virtualdepth.maths import balancedness, relative_balancedness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pytorch_lightning import Trainer


class BalancednessMixin(LayerMonitor):
    r"""Log each pair's defect, :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F`, of products.

    A product is a :class:`virtualdepth.DeepLinear` or an ``nn.Sequential`` of linear layers.
    Gradient flow keeps the defects constant; gradient descent changes them by O(lr^2) a step. The
    theory assumes that they are small.

    Layers of an imbalance have one constant defect. A layer with another ``structure`` than
    "matrix" is left out, and the user is told once.

    Logged every ``interval`` optimizer steps, at the start and at the end:
    ``balance/<layer>/pair_<j>``, and ``balance/<layer>/relative_<j>``, the defect divided by
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

    >>> from virtualdepth.lightning import BalancednessMonitor
    >>> BalancednessMonitor(interval=100).state_key
    "BalancednessMonitor{'layers': '*', 'interval': 100, 'figure': True}"
    """

    _prefix = "balance"

    def __init__(
        self, layers: str | Sequence[str] = "*", *, interval: int = 50, figure: bool = True
    ) -> None:
        super().__init__(layers, products_only=True, interval=interval, figure=figure)

    def _record_layer(self, trainer: "Trainer", layer: WatchedLayer) -> None:
        step, factors = trainer.global_step, layer.factors()
        if layer.structure != "matrix":
            raise ValueError(
                f"structure: expected 'matrix' but got {layer.structure!r}; "
                "virtualdepth.balancedness(factors, structure=...) measures such layers"
            )
        absolute = balancedness(factors).tolist()
        relative = relative_balancedness(factors).tolist()
        self._append(layer.name, {"step": step, "absolute": absolute, "relative": relative})
        values = {}
        for pair, defects in enumerate(zip(absolute, relative, strict=True), start=1):
            values[f"pair_{pair}"], values[f"relative_{pair}"] = defects
        self._log(trainer, step, f"balance/{layer.name}", values)

    def _draw(self, ax: "Axes", name: str, series: Series) -> None:
        from virtualdepth import plotting

        plotting.plot_balancedness(ax, series["step"], series["relative"])
