"""Figures of a study: a metric by depth with bands over seeds, as a heat map, or of a search."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from virtualdepth_lab.ablate.summary import Spread, by_configuration, in_order, label
from virtualdepth_lab.ablate.table import Row, complete

MOST_PANELS = 9
_WIDE = 10.0  # times: above it a logarithmic scale
Point = tuple[Any, ...]


def draw_lines(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw a metric against the first axis, a line with a band for each value of the second.

    Args:
        rows: of a table.
        axes: what varies; the third and further ones make panels.
        metric: which.

    Returns:
        The figure; the axis is one of categories, not to scale, so that infinity has a place.
    """
    spreads = by_configuration(rows, axes, metric)
    entries = _entries(rows, axes)
    figure, panels = _panels(entries[2:])
    for ax, point in panels:
        lines = entries[1] if len(axes) > 1 else [None]
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(lines)))
        for line, colour in zip(lines, colours, strict=True):
            between = (line,) if len(axes) > 1 else ()
            found = [spreads.get((x, *between, *point)) for x in entries[0]]
            _line(ax, found, colour, label(line))
        ax.set_xticks(range(len(entries[0])), [label(x) for x in entries[0]])
        ax.set_xlim(-0.3, len(entries[0]) - 0.7)
        ax.set_title(_titled(axes[2:], point), fontsize="medium")
        ax.set_xlabel(_name(axes[0]))
        ax.grid(color="0.9", linewidth=0.8)
        if _wide(spreads):
            ax.set_yscale("log")
    figure.supylabel(f"{_name(metric)}, median and quartiles over seeds", fontsize="medium")
    if len(axes) > 1:
        figure.legend(
            *panels[0][0].get_legend_handles_labels(),
            title=_name(axes[1]),
            loc="outside right upper",
            frameon=False,
        )
    return figure


def _line(ax: Axes, found: Sequence[Spread | None], colour: Any, name: str) -> None:
    """A gap stays where no cell is complete."""
    columns = [
        [math.nan if spread is None else getattr(spread, part) for spread in found]
        for part in ("median", "low", "high")
    ]
    places = range(len(found))
    ax.fill_between(places, columns[1], columns[2], color=colour, alpha=0.2, linewidth=0)
    ax.plot(places, columns[0], color=colour, marker="o", markersize=4, label=name)


def draw_heat_map(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw the medians of a metric over the first two axes.

    Args:
        rows: of a table.
        axes: two or more; the third and further ones make panels.
        metric: which.

    Returns:
        The figure; a cross where no cell is complete.
    """
    spreads = by_configuration(rows, axes, metric)
    entries = _entries(rows, axes)
    figure, panels = _panels(entries[2:], size=(1.2 + 0.62 * len(entries[0]), 3.4))
    ends = [spread.median for spread in spreads.values()]
    norm = LogNorm(min(ends), max(ends)) if _wide(spreads) else Normalize(min(ends), max(ends))
    for ax, point in panels:
        medians = np.array(
            [
                [_median(spreads.get((x, y, *point))) for x in entries[0]]
                for y in reversed(entries[1])
            ]
        )
        image = ax.imshow(medians, norm=norm, cmap="viridis", aspect="auto")
        _write_numbers(ax, medians, norm)
        ax.set_xticks(range(len(entries[0])), [label(x) for x in entries[0]])
        ax.set_yticks(range(len(entries[1])), [label(y) for y in reversed(entries[1])])
        ax.set_title(_titled(axes[2:], point), fontsize="medium")
        ax.set_xlabel(_name(axes[0]))
    figure.supylabel(_name(axes[1]), fontsize="medium")
    bar = figure.colorbar(
        image, ax=[ax for ax, _ in panels], label=f"{_name(metric)}, median over seeds"
    )
    if isinstance(norm, LogNorm):
        subs = (1.0, 2.0, 5.0) if max(ends) < 100 * min(ends) else (1.0,)
        bar.set_ticks(LogLocator(subs=subs), minor=False)
        bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        bar.ax.minorticks_off()
    return figure


def _write_numbers(ax: Axes, medians: "np.ndarray[Any, Any]", norm: Normalize) -> None:
    for (row, column), median in np.ndenumerate(medians):
        missing = math.isnan(median)
        light = not missing and norm(median) > 0.6
        ax.text(
            column,
            row,
            "×" if missing else f"{median:.2g}",
            ha="center",
            va="center",
            fontsize=7,
            color="black" if missing or light else "white",
        )


def draw_search(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw the metric of every complete cell of a search against each thing that was searched.

    Args:
        rows: of a table.
        axes: what was searched.
        metric: which.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(1 + 3 * len(axes), 3.4), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    done = complete(rows)
    found = [row[metric] for row in done]
    for ax, axis in zip(panels, axes, strict=True):
        entries = [row[axis] for row in done]
        if all(isinstance(entry, int | float) for entry in entries) and math.inf not in entries:
            ax.plot(entries, found, "o", markersize=4)
            if min(entries) > 0 and max(entries) > _WIDE * min(entries):
                ax.set_xscale("log")
        else:
            kinds = in_order(entries)
            ax.plot([kinds.index(entry) for entry in entries], found, "o", markersize=4)
            ax.set_xticks(range(len(kinds)), [label(kind) for kind in kinds])
        if min(found) > 0 and max(found) > _WIDE * min(found):
            ax.set_yscale("log")
        ax.set_xlabel(_name(axis))
        ax.grid(color="0.9", linewidth=0.8)
    panels[0].set_ylabel(_name(metric))
    return figure


def panels_left_out(rows: list[Row], axes: Sequence[str]) -> int:
    """Count the panels for which a figure has no room.

    Args:
        rows: of a table.
        axes: what varies.

    Returns:
        How many.
    """
    return max(0, math.prod(map(len, _entries(rows, axes)[2:])) - MOST_PANELS)


def _entries(rows: list[Row], axes: Sequence[str]) -> list[list[Any]]:
    return [in_order([row[axis] for row in rows]) for axis in axes]


def _panels(
    entries: Sequence[Sequence[Any]], size: tuple[float, float] = (4.2, 3.4)
) -> tuple[Figure, list[tuple[Axes, Point]]]:
    """Lay out a panel for each combination of what is neither on the axis nor a line."""
    points = list(product(*entries))[:MOST_PANELS]
    columns = math.ceil(len(points) ** 0.5)
    rows = math.ceil(len(points) / columns)
    figure = Figure(figsize=(1.6 + size[0] * columns, size[1] * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in grid.flat[len(points) :]:
        ax.remove()
    used = list(grid.flat)[: len(points)]
    return figure, list(zip(used, points, strict=True))


def _titled(names: Sequence[str], point: Point) -> str:
    return ", ".join(
        f"{_name(name)} {label(entry)}" for name, entry in zip(names, point, strict=True)
    )


def _name(column: str) -> str:
    return column.replace("_", " ")


def _median(spread: Spread | None) -> float:
    return math.nan if spread is None else spread.median


def _wide(spreads: dict[Point, Spread]) -> bool:
    ends = [spread.median for spread in spreads.values()]
    return min(ends) > 0 and max(ends) > _WIDE * min(ends)
