"""Angle and missing margin against steps."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from virtualdepth_lab.reproduce.drawing import DEPTH_COLORS, panels
from virtualdepth_lab.reproduce.margin.claims import curve_name
from virtualdepth_lab.reproduce.margin.methods import recorded
from virtualdepth_lab.reproduce.margin.run import VECTOR
from virtualdepth_lab.reproduce.result import Reproduction
from virtualdepth_lab.reproduce.rows import grouped


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw a row of panels for each problem: geometric means over its seeds."""
    problems = grouped(result.measured, "problem")
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
    return {
        "Angle to the direction of the support vector machine, and how much of its margin is "
        "missing; above, geometric means over the seeds.": figure
    }
