"""What the monitors share: an interval, a series that survives a resume, logging from rank 0."""

from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from numbers import Real
from typing import TYPE_CHECKING, Any

from virtualdepth._lightning._figures import log_figure
from virtualdepth._lightning.monitors._targets import (
    Target,
    find_targets,
    refuse_sharded,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = object

Series = dict[str, list[Any]]


def check_count(count: Any, name: str) -> int:
    """Refuse what does not count anything.

    Args:
        count: an integer >= 1.
        name: what the error message calls it.

    Returns:
        It.

    Raises:
        ValueError: if it is no positive integer.

    >>> check_count(50.0, "interval")
    50
    """
    is_number = isinstance(count, Real) and not isinstance(count, bool)
    if not is_number or count < 1 or count % 1 != 0:
        raise ValueError(f"{name}: expected an integer >= 1 but got {count!r}")
    return int(count)


class IntervalMonitor(Callback):
    """Record something every ``interval`` optimizer steps.

    All processes count the steps; rank 0 alone measures, keeps the series and logs.

    Args:
        interval: optimizer steps between two records, >= 1; the start is recorded too.
        figure: draw figures when training ends, and log them if the trainer has a logger.
        key: arguments that tell two callbacks of one class apart in a checkpoint.

    Attributes:
        series: name of the layer -> column -> one entry per record; "step" is a column.

    Raises:
        ValueError: if ``interval`` is not a positive integer.
    """

    series: dict[str, Series]

    def __init__(self, *, interval: int, figure: bool, **key: Any) -> None:
        super().__init__()
        self.interval = check_count(interval, "interval")
        self.figure = figure
        # Lightning asks for the key at every hook: it is made once
        self._state_key = f"{type(self).__qualname__}{key!r}"
        self._drawn: list[str] = []  # names of the figures logged when training ended
        self._reset()

    def _reset(self) -> None:
        """Forget every record: another run begins."""
        self.series = {}
        self._last: dict[str, int] = {}  # of what -> the step of its last record

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint: its class and its layers."""
        return self._state_key

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Find what to watch, before training.

        Of a model with a ``setup`` or ``configure_model`` of its own, which run later and may build
        layers, it is found in :meth:`on_fit_start`.

        Args:
            trainer: the trainer.
            pl_module: the model.
            stage: only "fit" matters.

        Raises:
            ImportError: if figures are wanted and matplotlib is missing.
        """
        if stage != "fit":
            return
        if self.figure and trainer.loggers and find_spec("matplotlib") is None:
            raise ImportError(
                f"{type(self).__name__}: figures need matplotlib: pip install "
                "'virtualdepth[plots]', or pass figure=False"
            )
        if not _builds_late(pl_module):
            self._prepare(trainer, pl_module)

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find what to watch in a model that builds its layers after :meth:`setup`.

        Args:
            trainer: the trainer.
            pl_module: the model.
        """
        if _builds_late(pl_module):
            self._prepare(trainer, pl_module)

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find what to watch; an error here ends the run before it begins."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier run of the same callback.

        Args:
            trainer: the trainer.
            pl_module: the model.
        """
        self._drawn = []
        if trainer.global_step == 0:
            self._reset()

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Log the figures; one whose name another monitor has taken gets a number, ``name_2``.

        Args:
            trainer: the trainer.
            pl_module: the model.
        """
        # a trainer without loggers was told to leave nothing behind
        if self.figure and trainer.loggers and trainer.is_global_zero:
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            monitors = [each for each in callbacks if isinstance(each, IntervalMonitor)]
            for name, figure in self.figures().items():
                place = 1 + sum(each._drawn.count(name) for each in monitors)
                self._drawn.append(name)
                log_figure(trainer, name if place == 1 else f"{name}_{place}", figure)

    def figures(self) -> dict[str, "Figure"]:
        """Draw what has been recorded so far.

        Returns:
            Name -> figure; empty if there is nothing to draw.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Hand the series to a checkpoint.

        Returns:
            Plain numbers, lists and tensors.
        """
        return deepcopy({"series": self.series, "last": self._last})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the series up where a checkpoint left it.

        Args:
            state_dict: what :meth:`state_dict` returned.
        """
        self.series = deepcopy(state_dict["series"])
        self._last = dict(state_dict["last"])

    def _is_due(self, step: int, what: str = "") -> bool:
        # a step count may jump, where several optimizers step in one batch
        last = self._last.get(what)
        return last is None or step // self.interval > last // self.interval

    def _append(self, name: str, row: dict[str, Any]) -> None:
        columns = self.series.setdefault(name, {})
        for column, value in row.items():
            columns.setdefault(column, []).append(value)

    def _log(self, trainer: "Trainer", step: int, values: dict[str, float]) -> None:
        # not pl_module.log: it drops what does not fall on a multiple of log_every_n_steps
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)


def _builds_late(module: "LightningModule") -> bool:
    # Lightning calls both hooks of a model after the setup of its callbacks; the base class is
    # known by name, for the flavours of Lightning differ in it
    kind = type(module)
    base = next(cls for cls in reversed(kind.__mro__) if cls.__name__ == "LightningModule")
    return any(
        getattr(kind, hook) is not getattr(base, hook) for hook in ("setup", "configure_model")
    )


class WeightMonitor(IntervalMonitor):
    """Record the weights after every ``interval`` steps, at the start and at the end."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Record the start.

        Args:
            trainer: the trainer.
            pl_module: the model.
        """
        super().on_train_start(trainer, pl_module)
        self._visit(trainer, self._is_due(trainer.global_step))

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the weights if a step has made it due.

        Args:
            trainer: the trainer.
            pl_module: the model.
            outputs: not used.
            batch: not used.
            batch_idx: not used.
        """
        self._visit(trainer, self._is_due(trainer.global_step))

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Record the end, and log the figures.

        Args:
            trainer: the trainer.
            pl_module: the model.
        """
        self._visit(trainer, self._last.get("") != trainer.global_step)
        super().on_train_end(trainer, pl_module)

    def _visit(self, trainer: "Trainer", due: bool) -> None:
        if due:
            self._last[""] = trainer.global_step
            if trainer.is_global_zero:
                self._record(trainer)

    def _record(self, trainer: "Trainer") -> None:
        """Measure, append to the series and log; called on rank 0."""
        raise NotImplementedError


class LayerMonitor(WeightMonitor):
    """Record chosen matrices.

    Args:
        layers: wildcards over names of modules, see :func:`find_targets`.
        products_only: leave single layers out.
        interval: see :class:`IntervalMonitor`.
        figure: see :class:`IntervalMonitor`.
    """

    def __init__(
        self, layers: str | Sequence[str], *, products_only: bool, interval: int, figure: bool
    ) -> None:
        super().__init__(interval=interval, figure=figure, layers=layers)
        self.layers = layers
        self._products_only = products_only
        self._targets: list[Target] = []

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._targets = find_targets(pl_module, self.layers, products_only=self._products_only)

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Record the start.

        Args:
            trainer: the trainer.
            pl_module: the model.

        Raises:
            TypeError: if a matrix is sharded.
        """
        refuse_sharded(self._targets)
        super().on_train_start(trainer, pl_module)
