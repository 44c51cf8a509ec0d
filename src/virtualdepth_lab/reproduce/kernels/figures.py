"""Distances of kernels and predictors against the width."""

from collections.abc import Mapping
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.kernels.claims import root_mean_squares
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

STYLES = {("linear", 2): "o-", ("linear", 3): "s-", ("relu", 2): "o--", ("relu", 3): "s--"}
LAYER_COLORS = {2: COLORS["vermilion"], 3: COLORS["sky blue"]}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a figure for kernels, and one for digits."""
    parts = {part: rows for (part,), rows in grouped(result.measured, "part").items()}
    return {
        "Relative distance of tangent kernels against the width: roots of mean squares over the "
        "seeds. Left, networks at the start from the exact kernel; right, two Gaussian layers "
        "after training from one layer under the rule.": _kernels(parts),
        "Digits: relative distance of the trained network's test outputs from the kernel's after "
        "as many steps, and accuracy on 1297 images; a point for each seed. Lines, right: the "
        "kernel's accuracy, mean of the seeds.": _digits(parts["digits"]),
    }


def _kernels(parts: Mapping[str, list[Record]]) -> Figure:
    figure, [[left, right]] = panels(1, 2, size=(4.8, 3.8), sharey=True)
    for (activation, layers), rows in grouped(parts["width"], "activation", "layers").items():
        gaps = root_mean_squares(rows, "gap")
        left.plot(
            list(gaps),
            list(gaps.values()),
            STYLES[activation, layers],
            color=LAYER_COLORS[layers],
            label=f"{'ReLU' if activation == 'relu' else activation}, {layers} layers",
        )
    _add_slope(left, root_mean_squares(parts["width"], "gap"))
    for name, color, label in (
        ("gap_end", COLORS["blue"], "imbalance 2 s² width"),
        ("balanced_gap_end", COLORS["vermilion"], "balanced rule"),
        ("turned", COLORS["grey"], "change by training"),
    ):
        gaps = root_mean_squares(parts["imbalance"], name)
        right.plot(list(gaps), list(gaps.values()), "o-", color=color, label=label)
    _add_slope(right, root_mean_squares(parts["imbalance"], "gap_end"))
    left.set(title="networks at the start", ylabel="relative distance of kernels")
    right.set_title("two Gaussian layers after training")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="width")
        _mark(ax, list(gaps))
        ax.legend(frameon=False)
    return figure


def _mark(ax: Axes, widths: list[int]) -> None:
    """Name the widths on the axis, and nothing between them."""
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.minorticks_off()


def _add_slope(ax: Axes, gaps: Mapping[int, float]) -> None:
    widths = list(gaps)
    line = [gaps[widths[0]] / 1.8 * (width / widths[0]) ** -0.5 for width in widths]
    ax.plot(widths, line, ":", color=COLORS["black"], label="width$^{-1/2}$")


def _digits(rows: list[Record]) -> Figure:
    figure, [[left, right]] = panels(1, 2, size=(4.8, 3.8))
    for layers, color in LAYER_COLORS.items():
        networks = where(rows, layers=layers, predictor="network")
        widths = [row["width"] for row in networks]
        left.plot(
            widths, [row["distance"] for row in networks], "o", color=color, alpha=0.6,
            label=f"{layers} layers",
        )  # fmt: skip
        means = root_mean_squares(networks, "distance")
        left.plot(list(means), list(means.values()), color=color)
        right.plot(
            widths, [100 * row["accuracy"] for row in networks], "o", color=color, alpha=0.6,
            label=f"network, {layers} layers",
        )  # fmt: skip
        kernel = where(rows, layers=layers, predictor="kernel, as many steps")
        right.axhline(
            100 * fmean(row["accuracy"] for row in kernel),
            color=color,
            label=f"kernel, {layers} layers",
        )
    _add_slope(left, root_mean_squares(where(rows, predictor="network"), "distance"))
    left.set(xscale="log", yscale="log", xlabel="width", ylabel="relative distance from the kernel")
    left.set_yticks([0.1, 0.2, 0.4, 0.8], ["0.1", "0.2", "0.4", "0.8"])
    right.set(xscale="log", xlabel="width", ylabel="test accuracy, %")
    for ax in (left, right):
        _mark(ax, list(means))
        ax.legend(frameon=False)
    return figure
