"""Trajectories of singular values."""

from typing import Any

from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import where

CURVES: dict[str, dict[str, Any]] = {
    "single": {"label": "one matrix", "color": COLORS["sky blue"], "linewidth": 4},
    "deep": {"label": "explicit network", "color": COLORS["black"], "linewidth": 1.2},
    "theory": {
        "label": "theory",
        "color": COLORS["vermilion"],
        "linewidth": 1.2,
        "linestyle": (0, (4, 4)),
    },
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a panel for each depth."""
    figure, axes = panels(2, 2, size=(5, 3.5))
    depths = [row["depth"] for row in where(result.measured, example="completion")]
    for ax, depth in zip(figure.axes, depths, strict=True):
        time = result.arrays[f"time_{depth}"]
        for name, style in CURVES.items():
            values = result.arrays[f"{name}_{depth}"]
            unlabelled = {key: value for key, value in style.items() if key != "label"}
            ax.plot(time, values[:, 0], **style)
            ax.plot(time, values[:, 1:], **unlabelled)
        ax.set(title=f"depth {depth}", xlabel="time = learning rate × step", xlim=(0, time[-1]))
        ax.set_ylabel("singular values")
    axes[1][1].legend(frameon=False, loc="upper left")  # where there is room
    return {"The ten largest singular values along training.": figure}
