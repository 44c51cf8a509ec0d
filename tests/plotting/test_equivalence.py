"""Plot functions draw what they are given, into the axes they are given, and touch nothing else."""

import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import plot_gap, plot_losses

TIME = np.linspace(0, 20, 50).tolist()


def axes() -> Axes:
    return Figure().subplots()


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("spans", [(1e3, 10.0), (10.0, 1e3)])
def test_losses_of_panels_that_share_an_axis(spans: tuple[float, float]) -> None:
    panels = Figure().subplots(1, 2, sharey=True)
    for ax, span in zip(panels, spans, strict=True):
        losses = np.geomspace(2.0, 2.0 / span, 50).tolist()
        plot_losses(ax, TIME, losses, losses)
    for ax in panels:
        low, high = ax.get_ylim()
        assert ax.get_yscale() == "log"
        assert 0 < low <= 2.0 / max(spans)
        assert high >= 2.0


@pytest.mark.parametrize("smallest", [0.5, 0.03, 1e-3, 1e-9])
def test_losses(smallest: float) -> None:
    single = np.geomspace(2.0, smallest, 50)
    ax = axes()
    assert plot_losses(ax, TIME, single.tolist(), (1.01 * single).tolist()) is ax
    below, above = ax.get_lines()
    np.testing.assert_allclose(below.get_xydata(), np.column_stack([TIME, single]))
    np.testing.assert_allclose(above.get_xydata(), np.column_stack([TIME, 1.01 * single]))
    assert texts(ax) == ["single layer", "deep network"]
    # the dashed line is drawn over a wider solid one of another colour: both show
    assert (below.get_linestyle(), above.get_linestyle()) == ("-", "--")
    assert below.get_linewidth() > 2 * above.get_linewidth()
    assert below.get_color() != above.get_color()
    low, high = ax.get_ylim()
    assert high >= 1.01 * 2.0
    if smallest < 0.01:
        assert ax.get_yscale() == "log"
        assert low <= smallest
    else:
        assert (ax.get_yscale(), low) == ("linear", 0)
    assert "learning rate × step" in ax.get_xlabel()
    assert ax.get_ylabel() == "training loss"


@pytest.mark.parametrize(
    ("lrs", "gaps"),
    [
        ([0.1, 0.05, 0.025, 0.0125], [1.15e-2, 5.65e-3, 2.8e-3, 1.4e-3]),
        ([0.0125, 0.1, 0.025], [1.4e-3, 1.15e-2, 2.8e-3]),
        ([0.1, 0.05], [0.14, 0.14]),
        ([0.1], [0.01]),
        ([0.25], [0.3]),
        ([0.01, 0.0099], [0.3, 1e-5]),
        ([1.0, 1e-5], [1e-1, 1e-7]),
    ],
)
def test_gap(lrs: list[float], gaps: list[float]) -> None:
    ax = axes()
    assert plot_gap(ax, lrs, gaps) is ax
    line, points = ax.get_lines()
    np.testing.assert_allclose(points.get_xydata(), np.column_stack([lrs, gaps]))
    x, y = line.get_xydata().T
    np.testing.assert_allclose(y / x, gaps[int(np.argmax(lrs))] / max(lrs))
    assert texts(ax) == ["slope 1: gap ∝ learning rate", "measured"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    # a decade is as long on both axes, so slope 1 is a diagonal
    ax.figure.draw_without_rendering()
    corner, right, up = ax.transData.transform([(0.01, 0.01), (0.1, 0.01), (0.01, 0.1)])
    assert right[0] - corner[0] == pytest.approx(up[1] - corner[1], rel=1e-6)
    for low, high, values in ((*ax.get_xlim(), lrs), (*ax.get_ylim(), gaps)):
        assert low < min(values) <= max(values) < high
    assert ax.get_xlabel() == "learning rate"
    assert "gap" in ax.get_ylabel()


def open_figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return [] if pyplot is None else pyplot.get_fignums()


def test_no_figure_is_registered() -> None:
    before = open_figures()  # other tests may have left some
    plot_gap(axes(), [0.1, 0.05], [0.01, 0.005])
    assert open_figures() == before
