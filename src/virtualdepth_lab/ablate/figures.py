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

from virtualdepth.plotting import draw_grid, figure_grid
from virtualdepth.runs import figure_text
from virtualdepth_lab.ablate.checks import is_number
from virtualdepth_lab.ablate.summary import Point, Quartiles, by_configuration, in_order, label
from virtualdepth_lab.ablate.table import Row, complete

MOST_PANELS = 9
_WIDE = 10.0  # largest over smallest value: above it the scale is logarithmic


def draw_lines(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw a metric against the first axis, a line with a band for each value of the second.

    Further axes make panels. The first axis is not to scale, so that infinity has a place.
    """
    found = by_configuration(rows, axes, metric)
    entries = _entries(rows, axes)
    figure, panels = _panels(entries[2:])
    for ax, point in panels:
        seconds = [(entry,) for entry in entries[1]] if len(axes) > 1 else [()]
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(seconds)))
        for second, colour in zip(seconds, colours, strict=True):
            low, median, high = _along(found, [(x, *second, *point) for x in entries[0]]).T
            places = range(len(median))
            ax.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
            name = figure_text(", ".join(map(label, second)))
            ax.plot(places, median, color=colour, marker="o", markersize=4, label=name)
        ax.set_xlim(-0.3, len(entries[0]) - 0.7)
        _label_panel(ax, axes, entries[0], point)
        draw_grid(ax)
        if _is_wide([entry.median for entry in found.values()]):
            ax.set_yscale("log")
    figure.supylabel(f"{_words(metric)}, median and quartiles over seeds", fontsize="medium")
    if len(axes) > 1:
        lines = panels[0][0].get_lines()
        legend = figure.legend(handles=lines, loc="outside right upper", title=_words(axes[1]))
        legend.set_frame_on(False)
    return figure


def _along(found: dict[Point, Quartiles], points: Sequence[Point]) -> "np.ndarray[Any, Any]":
    """Return the quartiles of each point, (points, 3); NaN where no cell is complete."""
    return np.array([found.get(point, (math.nan,) * 3) for point in points])


def draw_heat_map(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw the medians over the first two axes, with a cross where no cell is complete."""
    found = by_configuration(rows, axes, metric)
    entries = _entries(rows, axes)
    rising = list(reversed(entries[1]))  # the first row of an image is at the top
    figure, panels = _panels(entries[2:], size=(1.2 + 0.62 * len(entries[0]), 3.4))
    ends = [entry.median for entry in found.values()]
    norm = LogNorm(min(ends), max(ends)) if _is_wide(ends) else Normalize(min(ends), max(ends))
    for ax, point in panels:
        medians = np.array(
            [_along(found, [(x, y, *point) for x in entries[0]])[:, 1] for y in rising]
        )
        image = ax.imshow(medians, norm=norm, cmap="viridis", aspect="auto")
        _write_numbers(ax, medians, norm)
        ax.set_yticks(range(len(rising)), [figure_text(label(y)) for y in rising])
        _label_panel(ax, axes, entries[0], point)
    figure.supylabel(_words(axes[1]), fontsize="medium")
    bar = figure.colorbar(
        image, ax=[ax for ax, _ in panels], label=f"{_words(metric)}, median over seeds"
    )
    if isinstance(norm, LogNorm):
        subs = (1.0, 2.0, 5.0) if max(ends) < 100 * min(ends) else (1.0,)
        bar.set_ticks(LogLocator(subs=subs), minor=False)
        bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        bar.ax.minorticks_off()
    return figure


def _write_numbers(ax: Axes, medians: "np.ndarray[Any, Any]", norm: Normalize) -> None:
    for (row, column), median in np.ndenumerate(medians):
        is_missing = math.isnan(median)
        text = "×" if is_missing else f"{median:.2g}"
        colour = "black" if is_missing or norm(median) > 0.6 else "white"
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def draw_search(rows: list[Row], axes: Sequence[str], metric: str) -> Figure:
    """Draw the metric of every complete cell of a search against each axis."""
    figure, [panels] = figure_grid(1, len(axes), size=(3 + 1 / len(axes), 3.4), sharey=True)
    done = complete(rows)
    found = [row[metric] for row in done]
    for ax, axis in zip(panels, axes, strict=True):
        entries = [row[axis] for row in done]
        if all(map(is_number, entries)) and math.inf not in entries:
            ax.plot(entries, found, "o", markersize=4)
            if _is_wide(entries):
                ax.set_xscale("log")
        else:
            kinds = in_order(entries)
            ax.plot([kinds.index(entry) for entry in entries], found, "o", markersize=4)
            ax.set_xticks(range(len(kinds)), [figure_text(label(kind)) for kind in kinds])
        if _is_wide(found):
            ax.set_yscale("log")
        ax.set_xlabel(_words(axis))
        draw_grid(ax)
    panels[0].set_ylabel(_words(metric))
    return figure


def panels_left_out(rows: list[Row], axes: Sequence[str]) -> int:
    """Count the panels for which a figure has no room."""
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
    # The legend or colour bar at the right takes 1.6 inches.
    size = (size[0] + 1.6 / columns, size[1])
    figure, grid = figure_grid(rows, columns, size=size, sharex=True, sharey=True)
    panels = [ax for row in grid for ax in row]
    for ax in panels[len(points) :]:
        ax.remove()
    return figure, list(zip(panels, points, strict=False))


def _label_panel(ax: Axes, axes: Sequence[str], entries: Sequence[Any], point: Point) -> None:
    """Name the first axis and its values, and in the title what the panel has in common."""
    ax.set_xticks(range(len(entries)), [figure_text(label(x)) for x in entries])
    ax.set_xlabel(_words(axes[0]))
    common = zip(axes[2:], point, strict=True)
    title = ", ".join(f"{_words(name)} {figure_text(label(entry))}" for name, entry in common)
    ax.set_title(title, fontsize="medium")


def _words(column: str) -> str:
    return figure_text(column.replace("_", " "))


def _is_wide(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) > _WIDE * min(numbers)
