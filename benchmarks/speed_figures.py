"""The figures of docs/benchmarks.md, from the rows of a run."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from common import Row
from speed_training import EXPLICIT

mpl.use("Agg")
import matplotlib.pyplot as plt

STYLES: dict[str, dict[str, Any]] = {
    "svd": {"color": "C0", "marker": "o"},
    "tracked": {"color": "C1", "marker": "s"},
    "layers": {"color": "C2", "marker": "^"},
    "polar": {"color": "C3", "marker": "D"},
}


def style(name: str, number: int) -> dict[str, Any]:
    color = ["C4", "C5", "C6", "C7", "C8", "C9", "k"][number % 7]
    rival = {"color": color, "ls": "--", "marker": "xv*.+<1"[number % 7], "lw": 1}
    return STYLES.get(name.split(" ")[0], rival)


def plain_ticks(ax: Any, values: list[float]) -> None:
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()


def steps(rows: list[Row], path: Path) -> None:
    square = [row for row in rows if len(set(row["shape"].split(" x "))) == 1]
    _, ax = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    names = [n for n in dict.fromkeys(r["optimizer"] for r in square) if "momentum" not in n]
    rivals = [name for name in names if name not in STYLES]
    for name in names:
        own = [row for row in square if row["optimizer"] == name]
        label = name + (f", N = {own[0]['depth']:g}" if own[0]["depth"] else "")
        number = rivals.index(name) if name in rivals else 0
        sizes = [int(row["shape"].split(" ")[0]) for row in own]
        ax.loglog(sizes, [row["products"] for row in own], **style(name, number), label=label)
    plain_ticks(ax, sorted({int(row["shape"].split(" ")[0]) for row in square}))
    ax.set_xlabel("d, of a d x d matrix")
    ax.set_ylabel("one step, in d x d products")
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.savefig(path, dpi=110)
    plt.close()


def training(rows: list[Row], path: Path) -> None:
    size = max({row["d"] for row in rows}, key=lambda d: sum(row["d"] == d for row in rows))
    own = [row for row in rows if row["d"] == size and row["model"] != EXPLICIT]
    depths = sorted({row["depth"] for row in own})
    _, axes = plt.subplots(
        1, len(depths), figsize=(2.6 * len(depths) + 1, 3.6), sharey=True, layout="constrained"
    )
    for ax, depth in zip(axes, depths, strict=True):
        for name in dict.fromkeys(row["model"] for row in own):
            mine = [row for row in own if (row["model"], row["depth"]) == (name, depth)]
            x, y = [r["batch / d"] for r in mine], [r["of the explicit network"] for r in mine]
            if x:
                ax.loglog(x, y, **style(name, 0), label=name)
        ax.axhline(1, color="k", lw=0.8)
        plain_ticks(ax, sorted({row["batch / d"] for row in own}))
        ax.set_title(f"N = {depth}")
        ax.set_xlabel("batch / d")
        ax.grid(alpha=0.3, which="both")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_ylabel(f"time of a training step, d = {size},\nof the explicit network's")
    # "polar" has depth 2 only: the first panel has every solver
    axes[0].legend(fontsize=8)
    plt.savefig(path, dpi=110)
    plt.close()


def accuracy(rows: list[Row], path: Path) -> None:
    size = max({row["d"] for row in rows}, key=lambda d: sum(row["d"] == d for row in rows))
    names = list(dict.fromkeys(row["trajectory"] for row in rows))
    drawn, axes = plt.subplots(1, 2, figsize=(9.6, 4.4), sharey=True, layout="constrained")
    for ax, depth in zip(axes, (2, 3), strict=True):
        own = [row for row in rows if (row["d"], row["depth"], row["momentum"]) == (size, depth, 0)]
        solvers = list(dict.fromkeys(row["solver"] for row in rows))
        for place, solver in enumerate(solvers):
            mine = [row for row in own if row["solver"] == solver]
            y = [names.index(row["trajectory"]) + 0.16 * (place - 1.5) for row in mine]
            low, high = [r["error, median"] for r in mine], [r["largest"] for r in mine]
            look = {"color": STYLES.get(solver, {}).get("color", "k")}
            ax.hlines(y, low, high, lw=1.5, **look)
            label = f"{solver} (W itself)" if solver == "layers" else solver
            ax.plot(low, y, STYLES.get(solver, {}).get("marker", "o"), ms=4, label=label, **look)
        ax.set_xscale("log")
        ax.set_xlim(1e-8, 1e-1)
        ax.set_title(f"N = {depth}, d = {size}")
        ax.set_xlabel("error: median (mark) to largest")
        ax.grid(alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncol=6)
    plt.savefig(path, dpi=110)
    plt.close()


def scaling(rows: list[Row], path: Path) -> None:
    _, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
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
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    sized = [row for row in rows if row["against"] == "d"]
    for number, name in enumerate(dict.fromkeys(row["solver"] for row in sized)):
        own = [row for row in sized if row["solver"] == name]
        x, y = [row["d"] for row in own], [row["ms"] for row in own]
        right.loglog(x, y, **style(name, number), label=name)
    plain_ticks(right, sorted({row["d"] for row in sized}))
    right.set_xlabel("d")
    right.set_ylabel("CPU ms")
    right.grid(alpha=0.3, which="both")
    right.legend(fontsize=8)
    plt.savefig(path, dpi=110)
    plt.close()


def figures(results: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (steps, training, accuracy, scaling):
        draw(results[draw.__name__], folder / f"{draw.__name__}.png")
