"""The gap between the single layer and the deep network of the equivalence check, over a run."""

from typing import TYPE_CHECKING

import torch

from virtualdepth._lightning._equivalence import EquivalenceMixin
from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._weight_monitor import WeightMonitor
from virtualdepth.maths import end_to_end_gap

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer


class GapMixin(WeightMonitor):
    r"""Record how far the single layer of an EquivalenceModule is from the deep network.

    .. math:: \mathrm{gap} = \|W - W_N \cdots W_1\|_F \,/\, \|W_N \cdots W_1\|_F

    Logged every ``interval`` optimizer steps, at the start and at the end: ``equivalence/gap``.
    When training ends, the figure ``equivalence/gap`` over steps. For the gap against the learning
    rate collect ``module.largest_gap`` of several runs and draw
    :func:`virtualdepth.plotting.plot_gap`.

    Cost: one product of the layers per record, on rank 0, off the autograd graph.

    Args:
        interval: optimizer steps between two records.
        figure: draw and log the figure when training ends (needs matplotlib).

    Attributes:
        series: "gap" -> columns "step", "gap".

    Raises:
        ValueError: if ``interval`` is not a positive integer.

    :meth:`setup` raises TypeError where the model is no EquivalenceModule.

    >>> from virtualdepth.lightning import GapMonitor
    >>> GapMonitor().series  # filled by Trainer.fit
    {}
    """

    def __init__(self, *, interval: int = 50, figure: bool = True) -> None:
        super().__init__(interval=interval, figure=figure)

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not isinstance(pl_module, EquivalenceMixin):
            raise TypeError(
                f"model: expected an EquivalenceModule but got {type(pl_module).__name__}: only it "
                "holds a single layer and the deep network that the layer follows"
            )
        self._module = pl_module

    @torch.no_grad()
    def _record(self, trainer: "Trainer") -> None:
        step = trainer.global_step
        with self._never_ending_the_run(trainer, "gap"):
            gap = end_to_end_gap(self._module.single.weight, self._module.deep.end_to_end()).item()
            self._append("gap", {"step": step, "gap": gap})
            self._log(trainer, step, "equivalence", {"gap": gap})

    def figures(self) -> dict[str, "Figure"]:
        """Draw the gap over steps.

        Returns:
            ``equivalence/gap``; empty where nothing is recorded.
        """
        from virtualdepth import plotting

        if not self.series:
            return {}
        figure, ax = new_figure()
        plotting.plot_gap_history(ax, self.series["gap"]["step"], self.series["gap"]["gap"])
        return {"equivalence/gap": figure}
