"""Singular values, effective rank and nuclear norm over a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from virtualdepth._lightning._figures import new_figure
from virtualdepth._lightning.monitors._base import LayerMonitor, check_count
from virtualdepth._lightning.monitors._tracking import TripleTracker, by_name, largest, moved
from virtualdepth.maths import effective_rank_of_spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


class SpectrumMixin(LayerMonitor):
    r"""Log the largest singular values, effective rank and nuclear norm of chosen matrices.

    A matrix is an ``nn.Linear``, an ungrouped convolution as [out, in * kernel size], or the
    product of a :class:`virtualdepth.DeepLinear` or of an ``nn.Sequential`` of linear layers (whose
    biases do not count).

    Singular triples are followed by the overlap of their singular vectors, so that a curve keeps
    its name and colour where it crosses another. Names are places in the first spectrum recorded:
    ``sigma_1`` began as the largest. Those among the ``top_k`` largest at the moment are logged.

    Logged every ``interval`` optimizer steps, and at the start and the end:
    ``spectrum/<layer>/sigma_<name>``, ``spectrum/<layer>/effective_rank``,
    ``spectrum/<layer>/nuclear_norm``. When training ends, the figures ``spectrum/<layer>`` and
    ``effective_rank``.

    Cost: one thin SVD and two k x k products per layer and record, k = min(m, n), on rank 0, off
    the autograd graph; memory: two bases, (m + n) k numbers per layer.

    Args:
        layers: wildcards over names of modules, one or several. ``"*"``: every matrix, products as
            a whole; ``"deep.layers.*"``: the factors of the product ``deep``.
        interval: optimizer steps between two records.
        top_k: how many singular values to log.
        figure: draw and log figures when training ends (needs matplotlib).

    Attributes:
        series: layer -> columns "step", "names", "sigma" (of those names), "effective_rank",
            "nuclear_norm".

    Raises:
        ValueError: if ``interval`` or ``top_k`` is not a positive integer.

    :meth:`setup` raises ValueError where a pattern matches nothing.
    """

    def __init__(
        self,
        layers: str | Sequence[str] = "*",
        *,
        interval: int = 50,
        top_k: int = 10,
        figure: bool = True,
    ) -> None:
        super().__init__(layers, products_only=False, interval=interval, figure=figure)
        self.top_k = check_count(top_k, "top_k")

    def _reset(self) -> None:
        super()._reset()
        self._trackers: dict[str, TripleTracker] = {}

    def _record(self, trainer: "Trainer") -> None:
        step = trainer.global_step
        for target in self._targets:
            tracker = self._trackers.setdefault(target.name, TripleTracker())
            matrix = target.matrix()
            tracker.basis = moved(tracker.basis, matrix.device)  # a checkpoint's is on the CPU
            sigma, _ = tracker.follow(matrix)
            names = largest(sigma, self.top_k)
            ordered = sigma.sort(descending=True).values
            measures = {
                "effective_rank": effective_rank_of_spectrum(ordered).item(),
                "nuclear_norm": ordered.sum().item(),
            }
            values = sigma.tolist()
            top = [values[name] for name in names]
            row = {"step": step, "names": [name + 1 for name in names], "sigma": top, **measures}
            self._append(target.name, row)
            curves = {f"sigma_{name + 1}": values[name] for name in names}
            logged = {**curves, **measures}
            prefix = f"spectrum/{target.name}"
            self._log(trainer, step, {f"{prefix}/{key}": value for key, value in logged.items()})

    def figures(self) -> dict[str, "Figure"]:
        """Draw the singular values of each layer, and the effective ranks of all.

        Returns:
            ``spectrum/<layer>`` and ``effective_rank``.
        """
        from virtualdepth import plotting

        found = {}
        for name, series in self.series.items():
            figure, ax = new_figure(name, beside=0.14)
            curves = by_name(series["names"], series["sigma"])
            plotting.plot_singular_values(ax, series["step"], curves)
            found[f"spectrum/{name}"] = figure
        if self.series:
            figure, ax = new_figure()
            ranks = {name: series["effective_rank"] for name, series in self.series.items()}
            steps = next(iter(self.series.values()))["step"]
            plotting.plot_effective_rank(ax, steps, ranks)
            found["effective_rank"] = figure
        return found

    def state_dict(self) -> dict[str, Any]:
        """Hand series and bases to a checkpoint.

        Returns:
            Plain numbers, lists and tensors.
        """
        bases = {name: tracker.basis for name, tracker in self._trackers.items()}
        return {**super().state_dict(), "bases": bases}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take series and bases up where a checkpoint left them.

        Args:
            state_dict: what :meth:`state_dict` returned.
        """
        super().load_state_dict(state_dict)
        bases = state_dict["bases"]
        self._trackers = {name: TripleTracker(basis) for name, basis in bases.items()}
