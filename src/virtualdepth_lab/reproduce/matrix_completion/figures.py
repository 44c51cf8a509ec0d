"""Errors against CPU time."""

from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.matrix_completion.methods import AUTO, EXPLICIT, FAST, FLOW, NUCLEAR
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

METHOD_COLORS = {
    EXPLICIT: COLORS["black"],
    FLOW: COLORS["vermilion"],
    FAST: COLORS["green"],
    AUTO: COLORS["sky blue"],
}
MARKERS = {2: "o", 3: "^", 4: "s"}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw error against CPU seconds, a panel for each problem and a marker for each run."""
    problems = dict(sorted(grouped(result.measured, "size", "observed").items()))
    width = max(11 / len(problems), 5)  # one panel has to be as wide as the legend
    figure, [axes] = panels(1, len(problems), size=(width, 5), sharey=True)
    for ax, ((side, observed), rows) in zip(axes, problems.items(), strict=True):
        _draw_runs(ax, where(rows, distance=None))
        convex = median(row["error"] for row in where(rows, method=NUCLEAR))
        ax.axhline(convex, color=COLORS["grey"], linestyle="--")
        ax.set(xscale="log", yscale="log", xlabel="CPU seconds")
        ax.set_title(f"{side} × {side}, {observed} observed")
    axes[0].set_ylabel("error over all entries")
    handles = [
        *(Patch(color=color, label=method) for method, color in METHOD_COLORS.items()),
        Line2D([], [], color=COLORS["grey"], linestyle="--", label=NUCLEAR),
        *(
            Line2D(
                [],
                [],
                color=COLORS["grey"],
                marker=marker,
                linestyle="none",
                label=f"depth {depth}",
            )
            for depth, marker in MARKERS.items()
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return {"Error of each run against the CPU time that it took.": figure}


def _draw_runs(ax: Axes, rows: list[Record]) -> None:
    for (method, depth), runs in grouped(rows, "method", "depth").items():
        if depth in MARKERS:
            seconds, errors = ([row[name] for row in runs] for name in ("cpu_seconds", "error"))
            ax.plot(seconds, errors, MARKERS[depth], color=METHOD_COLORS[method])
