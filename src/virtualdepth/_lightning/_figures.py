"""Figures of the monitors, and how they reach the loggers of a trainer."""

import logging
from io import BytesIO
from itertools import chain, count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from virtualdepth.runs import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


_logger = logging.getLogger(__name__)
# the files that a run made, as it may replace them
_made: "WeakKeyDictionary[Trainer, set[tuple[str, str]]]" = WeakKeyDictionary()


def log_figure(trainer: "Trainer", name: str, figure: "Figure") -> list[Path]:
    """Send a figure to each logger of a trainer; call it on rank 0.

    TensorBoard, Weights & Biases and MLflow get it as an image called ``name``. For a logger
    without images, such as CSVLogger, and for a trainer without loggers it becomes the file
    ``figures/<name>.png`` in the log directory, which a later figure of that name replaces. So it
    does for a logger that fails to take it; the failure is logged as a warning. A file of that name
    that this trainer did not make stays, and the figure becomes ``figures/<name>.2.png``. The log
    directory may be a URL that fsspec opens, such as ``s3://bucket/run``.

    Args:
        trainer: the trainer; its ``global_step`` is logged with the figure.
        name: name of the figure; slashes group figures.
        figure: a matplotlib figure; it is left open.

    Returns:
        The files written, one for each log directory on this machine.

    Raises:
        ValueError: if the name leads out of the log directory.
    """
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError(f"name: expected one within the log directory but got {name!r}")
    without_images = [
        logger for logger in trainer.loggers if not _takes_image(logger, name, figure, trainer)
    ]
    folders = {_folder_of(logger, trainer) for logger in without_images}
    if not trainer.loggers:
        folders = {str(trainer.default_root_dir)}
    files = [_write(figure, folder, name, trainer) for folder in sorted(folders)]
    return [file for file in files if file is not None]


def _folder_of(logger: Any, trainer: "Trainer") -> str:
    # a minimal logger may have neither, or None
    places = (getattr(logger, "log_dir", None), getattr(logger, "save_dir", None))
    return str(next((place for place in places if place), trainer.default_root_dir))


def _write(figure: "Figure", folder: str, name: str, trainer: "Trainer") -> Path | None:
    """Write a figure under a name that is free, or of this run; return its path on this machine."""
    # a path is no URL, whatever characters are in it
    system, root = url_to_fs(folder) if "://" in folder else (LocalFileSystem(), folder)
    made = _made.setdefault(trainer, set())
    names = chain([name], (f"{name}.{number}" for number in count(2)))
    paths = (f"{root}/figures/{each}.png" for each in names)
    path = next(path for path in paths if (folder, path) in made or not system.exists(path))
    if path != f"{root}/figures/{name}.png":
        _logger.warning("figure %r: its file is not of this run; it is written to %s", name, path)
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    image = BytesIO()
    figure.savefig(image, format="png")
    made.add((folder, path))
    if isinstance(system, LocalFileSystem):
        with whole(Path(path)) as part:
            part.write_bytes(image.getvalue())
        return Path(path)
    system.pipe_file(path, image.getvalue())
    return None


def _takes_image(logger: Any, name: str, figure: "Figure", trainer: "Trainer") -> bool:
    try:
        return _sends_image(logger, name, figure, trainer.global_step)
    except Exception as error:  # of the logger's own: a file is left instead
        _logger.warning(
            "%s did not take the figure %r: %s; it is written to a file instead",
            type(logger).__name__,
            name,
            error,
        )
        return False


def _sends_image(logger: Any, name: str, figure: "Figure", step: int) -> bool:
    # recognised by what they offer: each flavour of Lightning has classes of its own
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(name, [figure], step=step)
    elif hasattr(experiment, "add_figure"):  # TensorBoard
        experiment.add_figure(name, figure, global_step=step, close=False)
    elif hasattr(logger, "run_id") and hasattr(experiment, "log_figure"):  # MLflow
        experiment.log_figure(logger.run_id, figure, f"figures/{name}.png")
    else:
        return False
    return True


def new_figure(title: str = "", *, legend_width: float = 0.0) -> tuple["Figure", "Axes"]:
    """Make a figure with one pair of axes; the legend on the right takes a share of the width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=120)  # outside pyplot, which would keep it open
    ax: Axes = figure.subplots()
    # fixed margins: a layout engine would draw everything twice
    figure.subplots_adjust(left=0.145, right=0.97 - legend_width, bottom=0.13, top=0.92)
    ax.set_title(title)
    return figure, ax
