"""Angle and missing margin against steps; margins by depth and norm; layers, and depths added."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.margin.claims import curve_name
from virtualdepth_lab.reproduce.margin.methods import recorded
from virtualdepth_lab.reproduce.margin.norms import sizes_name
from virtualdepth_lab.reproduce.margin.run import VECTOR
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

METHODS = ("depth 1", "depth 2", "depth 3")


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a figure for directions, one for norms, and one for layers."""
    parts = {part: rows for (part,), rows in grouped(result.measured, "part").items()}
    return {
        "Angle to the direction of the support vector machine, and how much of its margin is "
        "missing; above, geometric means over the seeds.": _directions(result, parts["direction"]),
        "Above: normalised margins in the norms that depth 1 and depth 2 induce, over the largest "
        "ones, a point for each seed. Below: the sizes of the weight over the largest, first seed; "
        "dashed, the convex optimum of the norm of depth 2.": _norms(result, parts["norms"]),
        "Left: the largest share of a layer that is outside rank one, and 1 minus the least "
        "alignment of adjacent layers (dotted). Right: the share of the norm that the shallow "
        "vector keeps. A line for each seed.": _over_time(parts["layers"], parts["depths added"]),
    }


def _directions(result: Reproduction, rows_of_all: list[Record]) -> Figure:
    """Draw a row of panels for each problem: geometric means over its seeds."""
    problems = grouped(rows_of_all, "problem")
    figure, axes = panels(len(problems), 2, size=(5.5, 4), sharex=True)
    steps = recorded(result.config["steps"])
    for pair, ((problem,), of_problem) in zip(axes, problems.items(), strict=True):
        for (network, depth), rows in grouped(of_problem, "network", "depth").items():
            curves = np.stack([result.arrays[curve_name(row)] for row in rows])
            style: dict[str, Any] = {"color": DEPTH_COLORS[depth], "linewidth": 1.5}
            if network != VECTOR:
                style |= {"linestyle": (0, (2, 3)), "linewidth": 3.0}
            for ax, values in zip(pair, (curves[:, 1], curves[:, 2]), strict=True):
                mean = np.exp(np.log(values).mean(0))
                ax.plot(steps, mean, label=f"{network}, depth {depth}", **style)
        for ax in pair:
            ax.set(xscale="log", yscale="log", xlabel="step", title=problem)
            ax.tick_params(labelbottom=True)
        pair[0].set_ylabel("angle to the maximum-margin direction, rad")
        pair[1].set_ylabel("1 − normalised margin / largest margin")
    axes[0][0].legend(frameon=False)
    return figure


def _norms(result: Reproduction, measured: list[Record]) -> Figure:
    problems = grouped(measured, "problem")
    figure, [above, below] = panels(2, len(problems), size=(4.0, 3.2))
    for upper, lower, ((problem,), rows) in zip(above, below, problems.items(), strict=True):
        _margins(upper, rows)
        upper.set(title=problem, xlabel="depth", xticks=[1, 2, 3], ylim=(0, 1.05))
        for row in where(rows, seed=rows[0]["seed"]):
            style: dict[str, Any] = {"color": DEPTH_COLORS[row["depth"]], "label": row["method"]}
            if row["method"] not in METHODS:
                if row["depth"] == 1:
                    continue
                style = {"color": COLORS["grey"], "linestyle": "--", "label": "convex optimum"}
            sizes = result.arrays[sizes_name(row)]
            lower.plot(range(1, len(sizes) + 1), sizes, **style)
        lower.set(yscale="log", ylim=(1e-5, 1.5), xlabel="place, the largest first")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    above[0].set_ylabel("normalised margin / largest")
    below[0].set_ylabel("size / largest size")
    handles, labels = below[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _margins(ax: Axes, rows: list[Record]) -> None:
    """Draw the margins of all seeds, in the norms of depth 1 and 2, beside the depth."""
    own = [row for row in rows if row["method"] in METHODS]
    for depth, marker, shift in ((1, "o", -0.08), (2, "s", 0.08)):
        [best, *_] = [row for row in rows if row not in own and row["depth"] == depth]
        ax.plot(
            [row["depth"] + shift for row in own],
            [row[f"of_largest_{depth}"] for row in own],
            marker,
            color=DEPTH_COLORS[depth],
            alpha=0.7,
            label=f"in the {best['method'].removeprefix('least ')}",
        )
    ax.legend(frameon=False, loc="lower left")


def _over_time(layers: list[Record], added: list[Record]) -> Figure:
    figure, [[left, right]] = panels(1, 2, size=(4.8, 3.6))
    for index, runs in enumerate(grouped(layers, "seed").values()):
        steps = [row["step"] + 1 for row in runs]
        left.plot(
            steps, [row["outside_rank_one"] for row in runs], color=COLORS["blue"],
            label="outside rank one" if index == 0 else None,
        )  # fmt: skip
        left.plot(
            steps, [1 - row["least_aligned"] for row in runs], ":", color=COLORS["vermilion"],
            label="1 − alignment" if index == 0 else None,
        )  # fmt: skip
    for runs in grouped(added, "seed").values():
        steps = [row["step"] + 1 for row in runs]
        right.plot(steps, [row["share"] for row in runs], color=COLORS["blue"])
    left.set(xscale="log", yscale="log", xlabel="step + 1", title="three unbalanced layers")
    left.set_ylim(bottom=1e-10)
    left.legend(frameon=False)
    right.set(xscale="log", yscale="log", xlabel="step + 1", title="depths 1 and 3 added")
    right.set_ylabel("share of the vector of depth 1")
    return figure
