"""Figures (extra ``plots``), each drawn into axes that the caller owns.

Every plot function takes ``ax`` and returns it. None shows or saves a figure. ``COLORS``,
``PALETTE``, ``figure_grid`` and ``draw_grid`` are the style that all figures share.
"""

from virtualdepth._extras import missing

try:
    import matplotlib  # noqa: F401
    import numpy  # noqa: F401
except ModuleNotFoundError as error:
    raise missing("virtualdepth.plotting", error, "plots") from error

from virtualdepth.plotting._equivalence import plot_gap, plot_losses
from virtualdepth.plotting._monitoring import (
    plot_alignment,
    plot_balancedness,
    plot_effective_rank,
    plot_gap_history,
    plot_singular_values,
)
from virtualdepth.plotting._style import COLORS, PALETTE, color_cycle, draw_grid, figure_grid

__all__ = [
    "COLORS",
    "PALETTE",
    "color_cycle",
    "draw_grid",
    "figure_grid",
    "plot_alignment",
    "plot_balancedness",
    "plot_effective_rank",
    "plot_gap",
    "plot_gap_history",
    "plot_losses",
    "plot_singular_values",
]
