"""Iterations to convergence against the standard deviation of the start."""

from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import where

# color, marker, and how high up the axes a failure is marked
STARTS = {"layer-wise": (COLORS["vermilion"], "o", 0.97), "balanced": (COLORS["blue"], "s", 0.92)}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a panel for each depth."""
    figure, [axes] = panels(1, 2, size=(4.5, 4), sharey=True)
    every = [row["deviation"] for row in where(result.measured, part="section 5")]
    ends = min(every) / 2, 2 * max(every)
    for ax, depth in zip(axes, (3, 8), strict=True):
        for kind, (color, marker, height) in STARTS.items():
            rows = where(result.measured, part="section 5", depth=depth, start=kind)
            found = [row for row in rows if row["steps"] is not None]
            deviations, steps, low, high = (
                [row[name] for row in found] for name in ("deviation", "steps", "from", "to")
            )
            ax.plot(deviations, steps, color=color, marker=marker, label=f"{kind} start")
            ax.fill_between(deviations, low, high, color=color, alpha=0.2, linewidth=0)
            failed = [row["deviation"] for row in rows if row["steps"] is None]
            top = ax.get_xaxis_transform()
            ax.plot(failed, [height] * len(failed), "x", color=color, transform=top)
        ax.set(xscale="log", yscale="log", xlim=ends, title=f"depth {depth}")
        ax.set_xlabel("standard deviation of an entry of W at the start")
    axes[0].set_ylabel("iterations to an excess loss of 1e-5")
    axes[0].legend(frameon=False, loc="upper left")
    return {
        "Iterations to convergence on the whitened ethanol data: medians over seeds, and their "
        "range; a cross at the top: most seeds do not converge in 20,000 iterations.": figure
    }
