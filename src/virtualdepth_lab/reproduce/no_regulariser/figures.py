"""Curl and work against depth."""

import numpy as np
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS, color_cycle
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import grouped, where


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw curl and work for one output and a constant gradient, a colour for each seed."""
    figure, [[left, right]] = panels(1, 2, size=(4.5, 3.8))
    depths = np.linspace(1, 8, 200)
    seeds = grouped((row for row in result.measured if "work" in row), "seed")
    for ((seed,), rows), color in zip(seeds.items(), color_cycle(len(seeds)), strict=True):
        # the closed form is |(N - 1)(N - 2)/N| times a factor of the angle, so 3/2 of it at N = 4
        angle = where(rows, depth=4)[0]["closed_form"] / 1.5
        left.plot(depths, angle * np.abs((depths - 1) * (depths - 2) / depths), color=color, lw=1)
        points = [row["depth"] for row in rows]
        left.plot(points, [row["curl"] for row in rows], "o", color=color, label=f"seed {seed}")
        right.plot(points, [row["work"] for row in rows], "o-", color=color, lw=1)
    left.set(title="curl: measured (points), closed form (lines)", ylabel="relative curl")
    right.set(title="work around a closed curve", ylabel="relative work")
    for ax in (left, right):
        ax.axhline(0, color=COLORS["grey"], linewidth=0.8)
        ax.set_xlabel("depth N")
    left.legend(frameon=False)
    return {
        "One output, constant gradient: curl of the rule's field at random weights, and its work "
        "around a circle in the plane of weight and gradient. Both are 0 at depth 1 and 2.": figure
    }
