"""Training loss against steps and against CPU time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from virtualdepth.plotting import COLORS
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.mnist.claims import BEST, TUTORIAL
from virtualdepth_lab.reproduce.mnist.problem import BALANCED_START, DRAWN_START, PLAIN, VIRTUAL
from virtualdepth_lab.reproduce.mnist.tables import curve_name, smoothed
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where

SPAN = 15  # short, so that the steep beginning shows
NETWORK_COLORS = {
    PLAIN: COLORS["black"],
    DRAWN_START: COLORS["orange"],
    BALANCED_START: COLORS["vermilion"],
    VIRTUAL: COLORS["blue"],
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a row of panels for each setting: loss against steps and against CPU time."""
    figure, axes = panels(2, 2, size=(5.5, 4), sharey=True)
    for pair, setting in zip(axes, (TUTORIAL, BEST), strict=True):
        networks = grouped(where(result.measured, setting=setting), "network", "lr")
        for (kind, lr), rows in networks.items():
            names = [curve_name(kind, lr, row["seed"]) for row in rows]
            _draw_network(pair, kind, lr, np.stack([result.arrays[n] for n in names]))
        pair[0].set(xlabel="step", ylabel="cross-entropy of the training batches, nats")
        pair[1].set(xlabel="CPU time on one thread, s")
        for ax in pair:
            ax.set(yscale="log", title=f"at {setting}")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
        pair[0].legend(frameon=False)
    return {
        f"Training loss as a mean over the last {SPAN} batches, units dropped, without the "
        "decay's share: mean over the seeds, shaded from the least to the greatest.": figure
    }


def _draw_network(
    pair: Sequence[Axes], kind: str, lr: float, tables: "np.ndarray[Any, np.dtype[np.float64]]"
) -> None:
    """Draw one network; ``tables`` holds loss, CPU and wall seconds, (seeds, 3, steps)."""
    loss = np.stack([smoothed(losses, SPAN) for losses in tables[:, 0]])[:, SPAN - 1 :]
    seconds = tables[:, 1, SPAN - 1 :].mean(0)
    steps = SPAN + np.arange(loss.shape[1])
    style = (0, (5, 3)) if kind == VIRTUAL else "-"  # it lies on the explicit network's curve
    color, label = NETWORK_COLORS[kind], f"{kind}, rate {lr:g}"
    for ax, across in zip(pair, (steps, seconds), strict=True):
        ax.plot(across, loss.mean(0), color=color, linestyle=style, label=label)
        ax.fill_between(across, loss.min(0), loss.max(0), color=color, alpha=0.15, lw=0)
