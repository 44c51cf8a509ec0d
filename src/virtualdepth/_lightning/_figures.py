"""Figures of the monitors, and how they reach the loggers of a trainer."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pytorch_lightning import Trainer


def log_figure(trainer: "Trainer", name: str, figure: "Figure") -> list[Path]:
    """Send a figure to each logger of a trainer; call it on rank 0.

    TensorBoard, Weights & Biases and MLflow get it as an image called ``name``. For a logger
    without images, such as CSVLogger, and for a trainer without loggers it becomes the file
    ``figures/<name>.png`` in the log directory, which a later figure of that name replaces.

    Args:
        trainer: the trainer; its ``global_step`` is logged with the figure.
        name: name of the figure; slashes group figures.
        figure: a matplotlib figure; it is left open.

    Returns:
        The files written, one for each log directory.
    """
    without_images = [
        logger for logger in trainer.loggers if not _takes_image(logger, name, figure, trainer)
    ]
    root = trainer.default_root_dir
    folders = {Path(logger.log_dir or logger.save_dir or root) for logger in without_images}
    if not trainer.loggers:
        folders = {Path(root)}
    files = [folder / "figures" / f"{name}.png" for folder in sorted(folders)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    return files


def _takes_image(logger: Any, name: str, figure: "Figure", trainer: "Trainer") -> bool:
    # recognised by what they offer: each flavour of Lightning has classes of its own
    step = trainer.global_step
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(name, [figure], step=step)
    elif hasattr(logger.experiment, "add_figure"):  # TensorBoard
        logger.experiment.add_figure(name, figure, global_step=step, close=False)
    elif hasattr(logger, "run_id") and hasattr(logger.experiment, "log_figure"):  # MLflow
        logger.experiment.log_figure(logger.run_id, figure, f"figures/{name}.png")
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
