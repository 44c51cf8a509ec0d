"""Rank and error along the paths."""

from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

STYLES: dict[str, dict[str, Any]] = {
    "convex solver": {"color": COLORS["grey"], "marker": "s", "linestyle": "none", "ms": 8},
    "depth 2": {"color": DEPTH_COLORS[2], "marker": "o", "ms": 4},
    "depth 3": {"color": DEPTH_COLORS[3], "marker": "o", "ms": 4},
    "depth 4": {"color": DEPTH_COLORS[4], "marker": "o", "ms": 4},
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw both against the decay, means over seeds."""
    figure, [[left, right]] = panels(1, 2, size=(4.5, 3.8))
    rows = where(result.measured, part="path")
    for (method,), path in grouped(rows, "method").items():
        points = grouped(path, "share")
        shares = [share for (share,) in points]
        for ax, name in ((left, "rank"), (right, "error")):
            means = [fmean(row[name] for row in each) for each in points.values()]
            ax.plot(shares, means, label=method, **STYLES[method])
    left.axhline(result.config["rank"], color=COLORS["black"], linewidth=0.8, linestyle=":")
    left.annotate(
        "true rank",
        (0.98, result.config["rank"]),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
    )
    left.set(ylabel="rank of the answer", title="rank")
    right.set(ylabel="relative error", title="distance to the true matrix", ylim=(0, None))
    for ax in (left, right):
        ax.set(xscale="log", xlabel="decay, of the least that gives zero at depth 2")
        ax.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
        ax.minorticks_off()
    right.legend(frameon=False)
    return {
        "Rank of the answer, and its distance to the matrix that made the data, against the decay: "
        "means over the seeds.": figure
    }
