"""The excess nuclear norm against alpha."""

from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a panel for each problem, a point for each run."""
    figure, [axes] = panels(1, 2, size=(4.5, 3.8), sharey=True)
    for ax, name in zip(axes, ("commuting", "contradiction"), strict=True):
        of_problem = where(result.measured, problem=name)
        for (depth,), rows in grouped(of_problem, "depth").items():
            alphas, excess = zip(
                *((row["alpha"], 100 * row["excess"]) for row in rows), strict=True
            )
            ax.plot(alphas, excess, "o", color=DEPTH_COLORS[depth], label=f"depth {depth}")
        ax.set(xscale="log", xlabel="alpha", title=name)
        ax.axhline(0, color=COLORS["grey"], linestyle="--")
    axes[0].set_ylabel("excess over the smallest nuclear norm, %")
    axes[0].legend(frameon=False)
    return {
        "Relative excess of the nuclear norm of the solution found, a point for each seed.": figure
    }
