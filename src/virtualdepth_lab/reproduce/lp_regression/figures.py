"""Losses against iterations: of the depths, and of their rivals."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.lp_regression.claims import SGD
from virtualdepth_lab.reproduce.result import Reproduction

Style = Mapping[str, Any]

DEPTHS: dict[str, Style] = {
    SGD if depth == 1 else f"depth {depth}": {"color": color}
    for depth, color in DEPTH_COLORS.items()
} | {
    f"explicit network, depth {depth}": {
        "color": DEPTH_COLORS[depth],
        "marker": "x",
        "linestyle": "none",
        "markevery": 8,
        "markersize": 5,
    }
    for depth in (2, 3)
}
RIVALS: dict[str, Style] = {
    SGD: {"color": COLORS["black"]},
    "depth 2": {"color": COLORS["vermilion"]},
    "depth 3": {"color": COLORS["sky blue"]},
    "depth 1, scalar normaliser": {"color": COLORS["black"], "linestyle": "--"},
    "depth 2, gain divided out": {"color": COLORS["vermilion"], "linestyle": ":"},
    "AdaGrad": {"color": COLORS["grey"]},
    "AdaDelta": {"color": COLORS["grey"], "linestyle": "--"},
    "Adam": {"color": COLORS["green"]},
    "depth 1, Barzilai-Borwein": {"color": COLORS["blue"]},
    "L-BFGS": {"color": COLORS["purple"]},
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw two figures, each with a row of panels for each start and a column for each power."""
    rows = [row for row in result.measured if "method" in row]
    starts = list(dict.fromkeys(row["start"] for row in rows))
    return {
        "Loss over the optimum against iterations, every depth as one vector at the constant "
        "learning rate that ends lowest; crosses: explicit networks, at their own.": _figure(
            result, starts, DEPTHS
        ),
        "Depths 2 and 3 beside other ways to step, each at the constant rate that ends lowest; "
        "Barzilai-Borwein and L-BFGS choose their own steps (for them iterations are evaluations "
        "of loss and gradient).": _figure(result, starts, RIVALS),
    }


def _figure(result: Reproduction, starts: Sequence[str], styles: Mapping[str, Style]) -> Figure:
    height = 3.2 + 1.4 / len(starts)  # with a share of the legend
    figure, axes = panels(len(starts), 2, size=(5, height), sharex=True)
    for line, start in zip(axes, starts, strict=True):
        for ax, power in zip(line, (2, 4), strict=True):
            _set_axes(ax, result, power, start)
            for name, style in styles.items():
                curve = result.arrays[_name(power, start, name)]
                iterations = result.arrays["iterations"]
                ax.plot(iterations[1:], curve[1:], linewidth=1.4, label=name, **style)
    for ax in axes[-1]:
        ax.set_xlabel("iterations")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _set_axes(ax: Axes, result: Reproduction, power: int, start: str) -> None:
    ax.set(xscale="log", yscale="log", title=rf"$\ell_{power}$, start {start}")
    ax.set_xlim(1, result.config["steps"])
    top = 1.1 * result.arrays[_name(power, start, SGD)][0]
    ax.set_ylim(0.95, top)
    ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 50, 100) if tick < top]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylabel("loss / smallest loss")


def _name(power: int, start: str, method: str) -> str:
    return f"{power}|{start}|{method}"
