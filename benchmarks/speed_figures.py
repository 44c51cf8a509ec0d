"""The figures of docs/benchmarks.md, from the rows of a run."""

import math
from typing import Any

from common import Row
from matplotlib.figure import Figure
from speed_training import EXPLICIT

from virtualdepth.plotting import COLORS, PALETTE, draw_grid, figure_grid

STYLES: dict[str, dict[str, Any]] = {
    "svd": {"color": COLORS["blue"], "marker": "o"},
    "svd, 10": {"color": COLORS["blue"], "marker": "o", "ls": "--"},
    "svd, 30": {"color": COLORS["blue"], "marker": "o", "ls": ":"},
    "tracked": {"color": COLORS["vermilion"], "marker": "s"},
    "layers": {"color": COLORS["green"], "marker": "^"},
}
NAMES = {"svd": "SVD at every step", "svd, 10": "at every 10th", "svd, 30": "at every 30th"}
APART = 0.027  # of neighbouring labels, in heights of the axis
OTHER = {"color": COLORS["black"], "marker": "o"}


def style(name: str, number: int) -> dict[str, Any]:
    """The look of a solver; of anything else, dashed lines and the marker of its number."""
    own = number % len(PALETTE)
    rival = {"color": PALETTE[own], "ls": "--", "marker": "xv*.+<1"[own], "lw": 1}
    return STYLES.get(name.split(" ")[0], rival)


def plain_ticks(ax: Any, values: list[float]) -> None:
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()


def steps(rows: list[Row]) -> Figure:
    square = [row for row in rows if len(set(row["shape"].split(" x "))) == 1]
    figure, [[ax]] = figure_grid(size=(8.6, 5.2))
    # torch's Muon computes in bfloat16, for which this kind of processor has no instructions
    names = [n for n in dict.fromkeys(r["optimizer"] for r in square) if "momentum" not in n]
    names = [name for name in names if name != "Muon"]
    rivals, ends = [name for name in names if name not in STYLES], {}
    for name in names:
        own = [row for row in square if row["optimizer"] == name]
        look = STYLES.get(name) or style(name, rivals.index(name))
        sizes = [int(row["shape"].split(" ")[0]) for row in own]
        ax.loglog(sizes, [row["products"] for row in own], **{"ls": "-", **look})
        ends[name] = (sizes[-1], own[-1]["products"], look["color"])
    ticks = sorted({int(row["shape"].split(" ")[0]) for row in square})
    plain_ticks(ax, ticks)
    ax.set_xlim(right=1.15 * ticks[-1])
    label_ends(ax, ends, ticks[-1])
    ax.set_xlabel("d, of a d x d matrix")
    ax.set_ylabel("one step, in d x d products")
    draw_grid(ax)
    return figure


def label_ends(ax: Any, ends: dict[str, tuple[float, float, Any]], last: float) -> None:
    """Write each line's name in its colour at the right of logarithmic axes."""
    low, high = ax.get_ylim()
    place, apart = 0.0, (high / low) ** APART
    for name, (x, y, color) in sorted(ends.items(), key=lambda item: item[1][1]):
        place = max(y, apart * place)
        label = NAMES.get(name, name)
        ax.annotate(
            label,
            (x, y),
            (1.35 * last, place),
            color=color,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.4},
            annotation_clip=False,
        )


def training(rows: list[Row]) -> Figure:
    size = max({row["d"] for row in rows}, key=lambda d: sum(row["d"] == d for row in rows))
    own = [row for row in rows if row["d"] == size and row["model"] != EXPLICIT]
    depths = sorted({row["depth"] for row in own})
    figure, [panels] = figure_grid(1, len(depths), size=(2.85, 3.6), sharey=True)
    for ax, depth in zip(panels, depths, strict=True):
        for name in dict.fromkeys(row["model"] for row in own):
            mine = [row for row in own if (row["model"], row["depth"]) == (name, depth)]
            x, y = [r["batch / d"] for r in mine], [r["of the explicit network"] for r in mine]
            if x:
                ax.loglog(x, y, **style(name, 0), label=name)
        ax.axhline(1, color="k", lw=0.8)
        plain_ticks(ax, sorted({row["batch / d"] for row in own}))
        ax.set_title(f"N = {depth}")
        ax.set_xlabel("batch / d")
        draw_grid(ax)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0].set_ylabel(f"time of a training step, d = {size},\nof the explicit network's")
    panels[0].legend(fontsize=8)
    return figure


def accuracy(rows: list[Row]) -> Figure:
    size = max({row["d"] for row in rows}, key=lambda d: sum(row["d"] == d for row in rows))
    names = list(dict.fromkeys(row["trajectory"] for row in rows))
    figure, [panels] = figure_grid(1, 2, size=(4.8, 4.4), sharey=True)
    for ax, depth in zip(panels, (2, 3), strict=True):
        own = [row for row in rows if (row["d"], row["depth"], row["momentum"]) == (size, depth, 0)]
        solvers = list(dict.fromkeys(row["solver"] for row in rows))
        for place, solver in enumerate(solvers):
            mine = [row for row in own if row["solver"] == solver]
            y = [names.index(row["trajectory"]) + 0.16 * (place - 1.5) for row in mine]
            low, high = [r["error, median"] for r in mine], [r["largest"] for r in mine]
            look = STYLES.get(solver, OTHER)
            ax.hlines(y, low, high, lw=1.5, color=look["color"])
            label = f"{solver} (W itself)" if solver == "layers" else solver
            ax.plot(low, y, ls="", ms=4, label=label, **look)
        ax.set_xscale("log")
        ax.set_xlim(1e-8, 1e-1)
        ax.set_title(f"N = {depth}, d = {size}")
        ax.set_xlabel("error: median (mark) to largest")
        draw_grid(ax)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncol=6)
    return figure


def scaling(rows: list[Row]) -> Figure:
    figure, [[left, right]] = figure_grid(1, 2, size=(4.8, 3.8))
    deep = [row for row in rows if row["against"] == "depth"]
    depths = sorted({row["depth"] for row in deep})
    for name in dict.fromkeys(row["solver"] for row in deep):
        own = [row for row in deep if row["solver"] == name]
        x = [depths.index(row["depth"]) for row in own]
        left.plot(x, [row["products"] for row in own], **style(name, 0), label=name)
    labels = ["inf" if math.isinf(depth) else f"{depth:g}" for depth in depths]
    left.set_xticks(range(len(depths)), labels)
    left.set_xlabel("depth N")
    left.set_ylabel(f"one step, in products, d = {deep[0]['d']}")
    left.set_ylim(bottom=0)
    draw_grid(left)
    left.legend(fontsize=8)
    sized = [row for row in rows if row["against"] == "d"]
    for number, name in enumerate(dict.fromkeys(row["solver"] for row in sized)):
        own = [row for row in sized if row["solver"] == name]
        x, y = [row["d"] for row in own], [row["ms"] for row in own]
        right.loglog(x, y, **style(name, number), label=name)
    plain_ticks(right, sorted({row["d"] for row in sized}))
    right.set_xlabel("d")
    right.set_ylabel("CPU ms")
    draw_grid(right)
    right.legend(fontsize=8)
    return figure


FIGURES = {"steps": steps, "training": training, "accuracy": accuracy, "scaling": scaling}
