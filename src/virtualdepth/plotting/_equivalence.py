"""Figures of the check: the losses of both models, and the gap over the learning rate."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from virtualdepth.plotting._style import COLORS, draw_grid


def plot_losses(
    ax: Axes, time: Sequence[float], single: Sequence[float], deep: Sequence[float]
) -> Axes:
    """Draw the losses of the single layer and of the deep network on top of each other.

    The axis of the loss starts at 0; it is logarithmic where losses span over two decades.

    Args:
        ax: where to draw.
        time: learning rate times step, rising.
        single: loss of the single layer, > 0, as many as times.
        deep: loss of the explicit network.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_losses(Figure().subplots(), [0.0, 0.1, 0.2], [1.0, 0.5, 0.4], [1.0, 0.6, 0.4])
    >>> [line.get_label() for line in ax.get_lines()]
    ['single layer', 'deep network']
    """
    ax.plot(
        time,
        single,
        color=COLORS["sky blue"],
        linewidth=4.5,
        solid_capstyle="butt",
        label="single layer",
    )
    ax.plot(
        time,
        deep,
        color=COLORS["black"],
        linewidth=1.3,
        linestyle=(0, (5, 3)),
        label="deep network",
    )
    losses = [*single, *deep]
    if max(losses) > 100 * min(losses):
        ax.set_yscale("log")
        ax.autoscale(axis="y")
    elif ax.get_yscale() == "linear":  # not made logarithmic by a panel that shares the axis
        ax.set_ylim(0, 1.05 * max(losses))
    ax.set_xlim(time[0], time[-1])
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("time = learning rate × step")
    ax.set_ylabel("training loss")
    draw_grid(ax)
    ax.legend(frameon=False)
    return ax


def plot_gap(ax: Axes, lrs: Sequence[float], gaps: Sequence[float]) -> Axes:
    """Draw the gap against the learning rate, both logarithmic, beside a line of slope 1.

    Both axes have the same scale, so that slope 1 is a diagonal. The line goes through the
    measurement of the largest learning rate.

    Args:
        ax: where to draw.
        lrs: learning rates, > 0.
        gaps: relative gap of each, > 0.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_gap(Figure().subplots(), [0.1, 0.05], [0.008, 0.0041])
    >>> [line.get_label() for line in ax.get_lines()]
    ['slope 1: gap ∝ learning rate', 'measured']
    """
    largest = max(range(len(lrs)), key=lambda run: lrs[run])
    line = [gaps[largest] * lr / lrs[largest] for lr in lrs]
    ax.plot(lrs, line, color="0.5", linestyle="--", label="slope 1: gap ∝ learning rate")
    ax.plot(lrs, gaps, color=COLORS["vermilion"], marker="o", linestyle="none", label="measured")
    ax.set(xscale="log", yscale="log", box_aspect=1, **_square_limits(lrs, [*gaps, *line]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    ax.set_xlabel("learning rate")
    ax.set_ylabel(r"largest gap $\|W - W_\mathrm{deep}\|_F \,/\, \|W_\mathrm{deep}\|_F$")
    draw_grid(ax)
    ax.legend(frameon=False, loc="lower right")  # below the line
    return ax


def _square_limits(x: Sequence[float], y: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Give both axes the same number of decades: those of the wider data and a margin."""
    ends = {"xlim": (min(x), max(x)), "ylim": (min(y), max(y))}
    factor = 1.5 * max(high / low for low, high in ends.values()) ** 0.5
    return {
        name: ((low * high) ** 0.5 / factor, (low * high) ** 0.5 * factor)
        for name, (low, high) in ends.items()
    }
