"""The figures of docs/completion.md, from the rows of a run."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from benchmarks.completion.cells import Row
from benchmarks.completion.methods import METHODS, OURS
from benchmarks.completion.results import (
    EXACT,
    RECOVERED,
    distinct,
    select,
    share_below,
    values,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

MARKERS = "osD^vP<>X*"


def look(method: str) -> dict[str, Any]:
    """Return the colour and marker that a method has in every figure; ours is blue and thick."""
    others = [name for name in METHODS if name != OURS]
    index = 0 if method == OURS else 1 + others.index(method)
    return {
        "color": PALETTE[0] if method == OURS else PALETTE[1 + (index - 1) % (len(PALETTE) - 1)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidth": 2.4 if method == OURS else 1.2,
        "linestyle": "-" if index <= len(PALETTE) - 1 else "--",
        "markersize": 5,
        "zorder": 3 if method == OURS else 2,
        "label": method,
    }


def heat_map(ax: Axes, rows: Sequence[Row], key: str, label: str) -> Any:
    """Draw the share of draws with an exact result, rho across."""
    rhos, heights = (sorted(distinct(rows, name)) for name in ("rho", key))
    shares = np.full((len(heights), len(rhos)), np.nan)
    for i, height in enumerate(heights):
        for j, rho in enumerate(rhos):
            own = select(rows, rho=rho, **{key: height})
            if (share := share_below(own, EXACT)) is not None:
                shares[i, j] = share
                count = round(share * len(own))
                color = "white" if share < 0.6 else "black"
                ax.text(
                    j, i, f"{count}/{len(own)}", ha="center", va="center", color=color, fontsize=8
                )
    picture = ax.imshow(
        shares, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower", rasterized=True
    )
    ax.set_xticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    ax.set_yticks(range(len(heights)), [f"{height:g}" for height in heights])
    ax.set_xlabel(r"$\rho$ = observed / r(m + n − r)")
    ax.set_ylabel(label)
    return picture


def draw_recovery(rows: Sequence[Row]) -> Figure:
    """Phase diagrams of ours, and the share of recovered draws of every method."""
    figure, [panels] = figure_grid(1, 3, size=(3.7, 3.7))
    phase = select(rows, part="phase")
    maps = (
        (panels[0], "size", "size m = n", select(phase, rank=5), "rank 5"),
        (panels[1], "rank", "rank r", select(phase, size=100), "100 × 100"),
    )
    for ax, key, label, own, title in maps:
        if own:
            picture = heat_map(ax, own, key, label)
            ax.set_title(f"{OURS}, {title}", fontsize=10)
    if phase:
        figure.colorbar(picture, ax=panels[:2], label="share of exact draws", shrink=0.9)
    lines(panels[2], [*select(phase, size=100, rank=5), *select(rows, part="rivals")])
    handles = panels[2].get_lines()
    figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=5)
    return figure


def lines(ax: Axes, rows: Sequence[Row]) -> None:
    ticks = sorted(distinct(rows, "rho"))
    for method in distinct(rows, "method"):
        own = select(rows, method=method)
        rhos = sorted(distinct(own, "rho"))
        shares = [share_below(select(own, rho=rho), RECOVERED) for rho in rhos]
        ax.plot([ticks.index(rho) for rho in rhos], shares, **look(method))
    ax.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel(r"$\rho$ = observed / r(m + n − r)")
    ax.set_ylabel("share with relative error < 1e-4")
    ax.set_title("100 × 100, rank 5", fontsize=10)
    draw_grid(ax)


def draw_costs(rows: Sequence[Row]) -> Figure:
    """CPU time against size; with noise, the error over the oracle's and the coverage."""
    figure, [panels] = figure_grid(1, 3, size=(3.7, 3.3))
    time, noise = select(rows, part="scale"), select(rows, part="noise")
    for method in distinct(time, "method"):
        own = [r for r in select(time, method=method, noise=0.0) if "seconds" in r]
        own.sort(key=lambda row: row["count"])
        panels[0].loglog([r["count"] for r in own], [r["seconds"] for r in own], **look(method))
    panels[0].set_xlabel("observed entries")
    panels[0].set_ylabel("CPU seconds, one thread")
    panels[0].set_title("without noise", fontsize=10)
    for ax, key in ((panels[1], "over_oracle"), (panels[2], "covered")):
        for method in distinct(noise, "method"):
            own = [row for row in select(noise, method=method) if row.get(key) is not None]
            rhos = sorted(distinct(own, "rho"))
            if rhos:
                middle = [median(values(select(own, rho=rho), key)) for rho in rhos]
                ax.plot(rhos, middle, **look(method))
        ax.set_xscale("log")
        ax.set_xticks([1.35, 2, 3, 5], ["1.35", "2", "3", "5"])
        ax.minorticks_off()
        ax.set_xlabel(r"$\rho$ = observed / r(m + n − r)")
        ax.set_title("100 × 100, rank 5, noise 0.1", fontsize=10)
    panels[1].set_yscale("log")
    panels[1].set_yticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    panels[1].minorticks_off()
    panels[1].axhline(1, color="black", linewidth=0.8)
    panels[1].set_ylabel("error over the oracle's")
    panels[2].axhspan(0.93, 0.97, color="0.9", zorder=0)
    panels[2].set_ylim(0.6, 1.0)
    panels[2].set_ylabel("share of truths in the 95 % interval")
    for ax in panels:
        draw_grid(ax)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=7)
    return figure


FIGURES = {"recovery.png": draw_recovery, "cost-and-noise.png": draw_costs}
