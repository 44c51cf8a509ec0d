"""Gaps, shares, errors, and the turn of the kernel."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.maths import StructureName
from virtualdepth.plotting import COLORS, color_cycle
from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where
from virtualdepth_lab.reproduce.structures.problem import GROUP_SIZE, GROUPS, LENGTH, MEASURED
from virtualdepth_lab.reproduce.structures.slopes import RATES

METHODS = {
    "depth 1": (DEPTH_COLORS[1], "o-"),
    "depth 2": (DEPTH_COLORS[2], "o-"),
    "depth 3": (DEPTH_COLORS[3], "o-"),
    "depth 4": (DEPTH_COLORS[4], "o-"),
    "convex": (COLORS["grey"], "s--"),
    "reweighted": (COLORS["green"], "s--"),
}
PANELS: Mapping[StructureName, tuple[str, str]] = {  # title, and what is active
    "diagonal": ("few entries (diagonal)", f"active entries of {LENGTH}"),
    "rows": ("few groups (rows)", f"active groups of {GROUPS}, {GROUP_SIZE} numbers each"),
    "circulant": ("few frequencies (circulant)", f"active frequencies of {LENGTH // 2 - 1}"),
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a figure for each part."""
    parts = {part: rows for (part,), rows in grouped(result.measured, "part").items()}
    return {
        "Shares of draws that were found to a relative error of 5 %, against the number of active "
        "blocks.": _recovery(parts["recovery"]),
        "How far the tangent kernel turns during training, against the imbalance (median of the "
        "seeds; crosses: the explicit network), and the gap of two Gaussian layers to the rule, "
        "against their width (a point for each seed).": _imbalance(
            parts["lazy to rich"], parts["infinite width"]
        ),
        "Largest gap between the rule and the explicit network at two learning rates, a line for "
        "each run.": _slopes(parts["slopes"]),
        "Test error of the ReLU network, and the share of the squared norm of its first layer "
        "that lies on the five relevant features; a point for each seed.": _features(
            parts["features"]
        ),
    }


def _recovery(rows: list[Record]) -> Figure:
    figure, [axes] = panels(1, len(PANELS), size=(4.0, 3.6), sharey=True)
    for ax, (structure, (title, active)) in zip(axes, PANELS.items(), strict=True):
        for method, (color, style) in METHODS.items():
            points = grouped(where(rows, structure=structure, method=method), "active")
            shares = [100 * fmean(row["share"] for row in runs) for runs in points.values()]
            counts = [count for (count,) in points]
            ax.plot(counts, shares, style, color=color, label=method)
        ax.set(title=title, xlabel=f"{active}; {MEASURED[structure]} measured", ylim=(-4, 104))
        ax.set_xticks(counts)
    axes[0].set_ylabel("share of draws found, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(METHODS), frameon=False)
    return figure


def _imbalance(lazy: list[Record], width: list[Record]) -> Figure:
    figure, [[left, right]] = panels(1, 2, size=(4.8, 3.8))
    for (depth,), rows in grouped(lazy, "depth").items():
        color = DEPTH_COLORS[depth]
        of_rule, of_network = (
            _medians(rows, name) for name in ("kernel_distance", "of_the_network")
        )
        imbalances = list(of_rule)
        left.plot(imbalances, list(of_rule.values()), "o-", color=color, label=f"depth {depth}")
        left.plot(imbalances, list(of_network.values()), "x", color=color, markersize=9)
    left.set(xscale="log", yscale="log", xlabel="imbalance λ", ylabel="kernel distance")
    left.set_title("rich (left) to lazy (right)")
    left.legend(frameon=False)
    for name, color, label in (
        ("gap", COLORS["blue"], "rule with λ = 2 s² width"),
        ("gap_without_imbalance", COLORS["vermilion"], "balanced rule"),
    ):
        right.plot(
            [row["width"] for row in width], [row[name] for row in width], "o", color=color,
            label=label,
        )  # fmt: skip
    widths = sorted({row["width"] for row in width})
    first = fmean(row["gap"] for row in where(width, width=widths[0]))
    line = [first * (each / widths[0]) ** -0.5 for each in widths]
    right.plot(widths, line, "--", color=COLORS["grey"], label="width$^{-1/2}$")
    right.set(xscale="log", yscale="log", xlabel="width", ylabel="relative gap")
    right.set_title("two Gaussian layers")
    right.legend(frameon=False)
    return figure


def _medians(rows: list[Record], name: str) -> dict[float, float]:
    return {
        imbalance: median(row[name] for row in of_imbalance)
        for (imbalance,), of_imbalance in grouped(rows, "imbalance").items()
    }


def _slopes(rows: list[Record]) -> Figure:
    figure, [[ax]] = panels(1, 1, size=(7.0, 4.2))
    structures = grouped(rows, "structure")
    for ((structure,), runs), color in zip(
        structures.items(), color_cycle(len(structures)), strict=True
    ):
        for number, row in enumerate(runs):
            label = structure.replace("u^2 - v^2", "$u^2 - v^2$") if number == 0 else None
            ax.plot(RATES, row["gaps"], "o-", color=color, linewidth=0.8, markersize=3, label=label)
    ends = [max(row["gaps"][0] for row in rows), min(row["gaps"][0] for row in rows)]
    for end in ends:
        line = [1.6 * end if end == ends[0] else end / 1.6, 0.0]
        line[1] = line[0] * RATES[-1] / RATES[0]
        ax.plot(
            RATES, line, "--", color=COLORS["grey"], label="slope 1" if end == ends[0] else None
        )
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="relative gap")
    ax.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    ax.minorticks_off()
    figure.legend(loc="outside right center", frameon=False)
    return figure


def _features(rows: list[Record]) -> Figure:
    figure, [axes] = panels(1, 2, size=(4.8, 3.2), sharey=True)
    methods = grouped(rows, "method")
    names = [name for (name,) in methods]
    _points(axes[0], list(methods.values()), "test_mse", 1.0)
    _points(axes[1], list(methods.values()), "share_of_relevant", 100.0)
    axes[0].set(xlabel="test error (mean square; variance 1)", yticks=range(len(names)))
    axes[0].set_yticklabels(names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    axes[1].set(xlabel="first layer on relevant features, %", xlim=(-3, 103))
    return figure


def _points(ax: Axes, groups: Sequence[list[Record]], name: str, factor: float) -> None:
    for place, runs in enumerate(groups):
        values = [factor * row[name] for row in runs]
        ax.plot(values, [place] * len(values), "o", color=COLORS["blue"], alpha=0.6)
        ax.plot([median(values)], [place], "|", color=COLORS["black"], markersize=16)
