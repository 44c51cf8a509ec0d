"""What the monitors share: an interval, a series that survives a resume, logging from rank 0."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from virtualdepth._lightning._figures import log_figure, new_figure
from virtualdepth._lightning._repr import call_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = object

Series = dict[str, list[Any]]

_logger = logging.getLogger(__name__)


class IntervalMonitor(Callback):
    """Record something every ``interval`` optimizer steps.

    All processes count the steps; rank 0 alone measures, keeps the series and logs. Wrong options
    are refused before training begins. From then on nothing ends the run that is watched: what
    cannot be recorded is told as a warning of the logger "virtualdepth", and left out.
    """

    series: dict[str, Series]
    """Name of the layer -> column -> one entry per record; "step" is a column."""

    _prefix: ClassVar[str]  # of the names of metrics and figures: <prefix>/<layer>
    _legend_width: ClassVar[float] = 0.0  # of the figures, as a share of their width

    def __init__(self, *, interval: int, figure: bool, **options: Any) -> None:
        """Check the options; all of them tell callbacks of one class apart in a checkpoint."""
        super().__init__()
        self.interval = check_count(interval, "interval")
        self.figure = figure
        # Lightning asks for the key at every hook: it is made once
        kind = type(self).__qualname__
        options |= {"interval": self.interval, "figure": figure}
        self._state_key = f"{kind}{options!r}"
        layers = {"layers": options["layers"]} if "layers" in options else {}
        self._old_state_key = f"{kind}{layers!r}"
        self._drawn: list[str] = []  # names of the figures logged when training ended
        self._told: set[str] = set()  # what the user has been told in this run
        self._reset()

    def __repr__(self) -> str:
        return call_of(self)

    def _reset(self) -> None:
        """Forget every record: another run begins."""
        self.series = {}
        self._last: dict[str, int] = {}  # layer, or "" for all -> step of the last record

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint: its class and its options."""
        return self._state_key

    @property
    def _legacy_state_key(self) -> Any:
        # Lightning looks here if a checkpoint lacks the other: the keys once named the layers alone
        return self._old_state_key

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Find what to watch, before training."""
        if stage != "fit":
            return
        self._told = set()
        if self.figure and trainer.loggers and find_spec("matplotlib") is None:
            raise ImportError(
                f"{type(self).__name__}: figures need matplotlib: pip install "
                "'virtualdepth[plots]', or pass figure=False"
            )
        if not _builds_late(pl_module):
            self._prepare(trainer, pl_module)

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find what to watch in a model that builds its layers after :meth:`setup`."""
        if _builds_late(pl_module):
            self._prepare(trainer, pl_module)

    def _prepare(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find what to watch; an error here ends the run before it begins."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier run of the same callback."""
        self._drawn = []
        if trainer.global_step == 0:
            self._reset()

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Log the figures; one whose name another monitor has taken gets a number, ``name_2``."""
        # a trainer without loggers was told to leave nothing behind
        if self.figure and trainer.loggers and trainer.is_global_zero:
            with self._never_ending_the_run(trainer, "figures"):
                self._log_figures(trainer)

    def _log_figures(self, trainer: "Trainer") -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        monitors = [each for each in callbacks if isinstance(each, IntervalMonitor)]
        for name, figure in self.figures().items():
            place = 1 + sum(each._drawn.count(name) for each in monitors)
            self._drawn.append(name)
            with self._never_ending_the_run(trainer, f"figure {name}"):
                log_figure(trainer, name if place == 1 else f"{name}_{place}", figure)

    def figures(self) -> dict[str, "Figure"]:
        """Draw what has been recorded so far, one figure per layer.

        Returns:
            Name of the figure -> matplotlib figure; empty where nothing is recorded.
        """
        found = {}
        for name, series in self.series.items():
            figure, ax = new_figure(name, legend_width=self._legend_width)
            self._draw(ax, name, series)
            found[f"{self._prefix}/{name}"] = figure
        return found

    def _draw(self, ax: "Axes", name: str, series: Series) -> None:
        """Draw the series of one layer."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and tensors, for a checkpoint."""
        return deepcopy({"series": self.series, "last": self._last})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.series = deepcopy(state_dict["series"])
        self._last = dict(state_dict["last"])

    @contextmanager
    def _never_ending_the_run(self, trainer: "Trainer", what: str) -> Iterator[None]:
        """Tell the user, once for each ``what``, of an error that left it without a record."""
        try:
            yield
        except Exception as error:  # whatever it is: the run would have gone on without a monitor
            self._tell(what, f"no record of {what} at step {trainer.global_step}: {error}")

    def _tell(self, what: str, message: str) -> None:
        # not a warning of Python's, which -W error would turn into the end of the run
        if what not in self._told:
            self._told.add(what)
            _logger.warning("%s: %s", type(self).__name__, message)

    def _is_due(self, step: int, what: str = "") -> bool:
        # a step count may jump, where several optimizers step in one batch
        last = self._last.get(what)
        return last is None or step // self.interval > last // self.interval

    def _append(self, name: str, row: dict[str, Any]) -> None:
        columns = self.series.setdefault(name, {})
        for column, value in row.items():
            columns.setdefault(column, []).append(value)

    def _log(self, trainer: "Trainer", step: int, name: str, values: dict[str, float]) -> None:
        # not pl_module.log: it drops what does not fall on a multiple of log_every_n_steps
        for logger in trainer.loggers:
            logger.log_metrics({f"{name}/{key}": value for key, value in values.items()}, step=step)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    rest = len(names) - most
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {rest} more" if rest > 0 else shown


def check_count(count: Any, name: str) -> int:
    """Return an integer >= 1; 50.0 is one too, as a configuration file may hold it."""
    is_number = isinstance(count, Real) and not isinstance(count, bool)
    if not is_number or count < 1 or count % 1 != 0:
        raise ValueError(f"{name}: expected an integer >= 1 but got {count!r}")
    return int(count)


def _builds_late(module: "LightningModule") -> bool:
    # Lightning calls both hooks of a model after the setup of its callbacks; the base class is
    # found by name, because each flavour of Lightning has its own
    kind = type(module)
    base = next(cls for cls in reversed(kind.__mro__) if cls.__name__ == "LightningModule")
    return any(
        getattr(kind, hook) is not getattr(base, hook) for hook in ("setup", "configure_model")
    )
