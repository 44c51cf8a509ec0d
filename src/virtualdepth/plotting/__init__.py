"""Figures (extra ``plots``), each drawn into axes that the caller owns.

Every function takes ``ax`` and returns it; none shows or saves a figure.
"""

from virtualdepth.plotting._equivalence import plot_gap, plot_losses
from virtualdepth.plotting._monitoring import (
    plot_alignment,
    plot_balancedness,
    plot_effective_rank,
    plot_gap_history,
    plot_singular_values,
)

__all__ = [
    "plot_alignment",
    "plot_balancedness",
    "plot_effective_rank",
    "plot_gap",
    "plot_gap_history",
    "plot_losses",
    "plot_singular_values",
]
