"""Singular values, effective rank and nuclear norm over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._interval_monitor import Series, check_count
from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth._lightning.monitors._singular_triples import curves_by_name, labels, largest
from virtualdepth._lightning.monitors._step_rule import blocks_of, structure_of
from virtualdepth._lightning.monitors._weight_monitor import LayerMonitor
from virtualdepth.maths import StructureName, block_svd, effective_rank_of_spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


class SpectrumMixin(LayerMonitor):
    r"""Log the largest singular values, effective rank and nuclear norm of chosen matrices.

    A matrix is the weight of an ``nn.Linear``, the kernel of an ungrouped convolution as
    [out, in * kernel size], or the product of a :class:`virtualdepth.DeepLinear` or of an
    ``nn.Sequential`` of linear layers (whose biases do not count).

    Of a layer that trains with another ``structure`` than "matrix" the sizes of its blocks take the
    place of singular values: norms of rows or columns, absolute entries, frequencies. Then the
    effective rank is an effective number of blocks, and a name is the place of a block, from 1 on.

    Each record logs the ``top_k`` largest of that moment. ``sigma_1`` is the largest singular value
    of the record, ``sigma_2`` the second: names depend on no other record, so not on ``interval``.

    Logged every ``interval`` optimizer steps, at the start and at the end:
    ``spectrum/<layer>/sigma_<name>``, ``spectrum/<layer>/effective_rank``,
    ``spectrum/<layer>/nuclear_norm``. When training ends, the figures ``spectrum/<layer>`` and
    ``effective_rank``.

    Cost: one thin SVD per layer and record, on rank 0, off the autograd graph.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, and products
            as a whole; ``"deep.layers.*"``: the factors of the product ``deep``.
        interval: optimizer steps between two records.
        top_k: how many singular values to log.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "names", "sigma" (of those names), "effective_rank",
            "nuclear_norm".

    Raises:
        ValueError: if ``interval`` or ``top_k`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing.

    >>> from virtualdepth.lightning import SpectrumMonitor
    >>> SpectrumMonitor(["body.*", "head"], top_k=5).figures()  # nothing recorded yet
    {}
    """

    _prefix = "spectrum"
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
        super().__init__(
            layers, products_only=False, interval=interval, figure=figure, top_k=self.top_k
        )

    def _reset(self) -> None:
        super()._reset()
        self._structures: dict[str, StructureName] = {}

    def _record_layer(self, trainer: "Trainer", layer: WatchedLayer) -> None:
        step, array = trainer.global_step, layer.array()
        structure = structure_of(layer, trainer.optimizers)
        self._structures[layer.name] = structure
        sigma = block_svd(blocks_of(array, structure))[1].flatten()
        places = largest(sigma, self.top_k)
        names, top = labels(places, structure), sigma[places].tolist()
        ordered = sigma.sort(descending=True).values
        measures = {
            "effective_rank": effective_rank_of_spectrum(ordered).item(),
            "nuclear_norm": ordered.sum().item(),
        }
        self._append(layer.name, {"step": step, "names": names, "sigma": top, **measures})
        curves = {f"sigma_{name}": value for name, value in zip(names, top, strict=True)}
        self._log(trainer, step, f"spectrum/{layer.name}", {**curves, **measures})

    def figures(self) -> dict[str, "Figure"]:
        """Draw the singular values, or sizes, of each layer, and the effective ranks of all.

        Returns:
            ``spectrum/<layer>`` and ``effective_rank``.
        """
        from virtualdepth import plotting

        found = super().figures()
        if self.series:
            figure, ax = new_figure()
            plotting.plot_effective_rank(ax, *_aligned(self.series, "effective_rank"))
            found["effective_rank"] = figure
        return found

    def _draw(self, ax: "Axes", name: str, series: Series) -> None:
        from virtualdepth import plotting

        curves = curves_by_name(series["names"], series["sigma"])
        structure = self._structures[name]
        plotting.plot_singular_values(ax, series["step"], curves, structure=structure)

    def state_dict(self) -> dict[str, Any]:
        """Return the series and the structures of the layers, for a checkpoint."""
        return {**super().state_dict(), "structures": dict(self._structures)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        structures = state_dict.get("structures", {})  # checkpoints once had none
        self._structures = {name: structures.get(name, "matrix") for name in self.series}


def _aligned(series: dict[str, Series], column: str) -> tuple[list[int], dict[str, list[float]]]:
    """Return all steps, and the column of each layer, NaN at a step that it has no record of."""
    steps = sorted({step for each in series.values() for step in each["step"]})
    rows = {
        name: dict(zip(each["step"], each[column], strict=True)) for name, each in series.items()
    }
    return steps, {
        name: [row.get(step, float("nan")) for step in steps] for name, row in rows.items()
    }
