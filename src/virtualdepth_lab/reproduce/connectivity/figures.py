"""Losses along paths, and their largest steps."""

import numpy as np
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

WAYS = {
    "straight line": COLORS["vermilion"],
    "halves, doubled": COLORS["sky blue"],
    "halves, trained": COLORS["blue"],
}
FLOOR = 1e-18


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the linear and the ReLU networks."""
    return {
        "Loss between two linear networks of different seeds, a line for each pair.": (
            _losses(result)
        ),
        "Largest step of the path, relative to the norm of all weights, by its number of points; "
        "right: where the straight line of W passes a matrix of lower rank.": _steps(
            result.measured
        ),
        "Training loss between two ReLU networks of different seeds on digits, first seed.": (
            _relu(result)
        ),
    }


def _losses(result: Reproduction) -> Figure:
    groups = grouped(where(result.measured, part="linear"), "hidden")
    figure, [axes] = panels(1, len(groups), size=(4.0, 3.2), sharey=True)
    for ax, ((hidden,), rows) in zip(axes, groups.items(), strict=True):
        for number, row in enumerate(rows):
            line, path = result.arrays[f"linear_{hidden}_{row['seed']}"]
            place = np.linspace(0, 1, len(line))
            for losses, color, label in (
                (line, COLORS["vermilion"], "straight line"),
                (path, COLORS["blue"], "connecting_path"),
            ):
                shown = label if number == 0 else None
                ax.plot(place, np.maximum(losses, FLOOR), color=color, linewidth=1.4, label=shown)
        ax.set(title=f"widths {hidden.replace(' ', ', ')}", xlabel="share of the way")
        ax.set(yscale="log", xlim=(0, 1))
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False, loc="center")
    return figure


def _steps(rows: list[Record]) -> Figure:
    figure, [axes] = panels(1, 2, size=(4.6, 3.4), sharey=True)
    colors = (COLORS["blue"], COLORS["vermilion"], COLORS["green"])
    for ax, part, title in (
        (axes[0], "linear", "two seeds"),
        (axes[1], "lower rank", "through a lower rank"),
    ):
        groups = grouped(where(rows, part=part), "hidden")
        for ((hidden,), pairs), color in zip(groups.items(), colors, strict=False):
            for number, row in enumerate(pairs):
                label = f"widths {hidden.replace(' ', ', ')}" if number == 0 else None
                ax.plot(row["points"], row["largest_steps"], "o-", color=color, label=label)
        counts = pairs[0]["points"]
        ax.set(xscale="log", yscale="log", title=title, xlabel="points of a move")
        ax.set_xticks(counts, [str(count) for count in counts])
        ax.minorticks_off()
    axes[0].set_ylabel("largest step")
    axes[0].legend(frameon=False)
    return figure


def _relu(result: Reproduction) -> Figure:
    groups = grouped(where(result.measured, part="ReLU"), "width")
    figure, [axes] = panels(1, len(groups), size=(4.6, 3.4), sharey=True)
    for ax, ((width,), rows) in zip(axes, groups.items(), strict=True):
        for way, color in WAYS.items():
            losses = result.arrays[f"relu_{width}_{rows[0]['seed']}_{way}"]
            ax.plot(np.linspace(0, 1, len(losses)), losses, color=color, label=way)
        ax.set(title=f"{width} units", xlabel="share of the way", yscale="log", xlim=(0, 1))
    axes[0].set_ylabel("training loss")
    axes[0].legend(frameon=False)
    return figure
