"""What the figures of all experiments share: a colour for each depth, and panels with a grid."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS, draw_grid, figure_grid

DEPTH_COLORS = {
    1: COLORS["black"],
    1.5: COLORS["orange"],
    2: COLORS["vermilion"],
    3: COLORS["sky blue"],
    4: COLORS["blue"],
    8: COLORS["purple"],
}


def panels(
    rows: int, columns: int, *, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure and its axes, panels[row][column], each of ``size`` inches and with a grid."""
    figure, axes = figure_grid(rows, columns, size=size, **options)
    for ax in figure.axes:
        draw_grid(ax)
    return figure, axes
