"""One palette and one grid for every figure of the package, the laboratory and the benchmarks."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# without its yellow, which is too light for lines on white
COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky blue": "#56B4E9",
    "orange": "#E69F00",
    "black": "#000000",
    "grey": "#999999",
}
"""The colours of Okabe and Ito, which readers with any colour vision can tell apart."""

PALETTE = tuple(color for name, color in COLORS.items() if name != "grey")
"""The seven colours of curves, in the order in which figures use them."""


def color_cycle(count: int) -> list[str]:
    """List the colours of ``count`` curves: the palette, repeated where there are more."""
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def figure_grid(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (4.0, 3.4), **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of rows x columns panels of ``size`` inches; options as in ``subplots``."""
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def draw_grid(ax: Axes) -> None:
    """Draw the light grey grid lines that all figures have."""
    ax.grid(color="0.9", linewidth=0.8)
