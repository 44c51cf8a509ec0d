"""The figures of the monitors show the numbers they are given, each under its own name."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth import plotting
from virtualdepth.maths import STRUCTURES, StructureName

STEPS = [0, 10, 20]
NAN = float("nan")


def axes() -> Axes:
    return Figure().subplots()


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def data(ax: Axes) -> list[list[float]]:
    return [line.get_ydata().tolist() for line in ax.get_lines() if len(line.get_xdata())]


def test_a_name_keeps_its_colour_in_measurement_and_theory() -> None:
    ax = axes()
    values = {2: [1.0, 2.0, 3.0], 1: [3.0, 2.0, NAN]}
    theory = {2: [1.0, 2.1, 3.2], 1: [3.0, 1.9, NAN]}
    assert plotting.plot_singular_values(ax, STEPS, values, theory) is ax
    np.testing.assert_equal(data(ax), [*values.values(), *theory.values()])
    measured, predicted = ax.get_lines()[:2], ax.get_lines()[2:4]
    for solid, dashed in zip(measured, predicted, strict=True):
        assert solid.get_color() == dashed.get_color()
        assert solid.get_linewidth() > 2 * dashed.get_linewidth()
        assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert measured[0].get_color() != measured[1].get_color()
    assert legend(ax) == ["$σ_{2}$", "$σ_{1}$", "theory"]
    # the colour belongs to the name, not to the place in the list
    alone = plotting.plot_singular_values(axes(), STEPS, {1: [3.0, 2.0, 1.0]})
    assert alone.get_lines()[0].get_color() == measured[1].get_color()
    assert legend(alone) == ["$σ_{1}$"]


def test_fourteen_names_can_be_told_apart() -> None:
    ax = axes()
    values = {name: [1.0 / name] * 3 for name in range(1, 15)}
    plotting.plot_singular_values(ax, STEPS, values)
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
    assert len(looks) == 14


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_axis_says_what_the_sizes_are(structure: StructureName) -> None:
    ax = plotting.plot_singular_values(axes(), STEPS, {1: [3.0, 2.0, 1.0]}, structure=structure)
    sizes = {
        "matrix": "singular value",
        "rows": "norm of a row",
        "columns": "norm of a column",
        "diagonal": "absolute entry",
        "circulant": "size at a frequency",
    }
    assert ax.get_ylabel() == sizes[structure]


def test_effective_ranks() -> None:
    ax = axes()
    ranks = {"body": [4.0, 3.0, 2.0], "head": [2.0, 2.0, 1.5]}
    assert plotting.plot_effective_rank(ax, STEPS, ranks) is ax
    assert data(ax) == list(ranks.values())
    assert legend(ax) == ["body", "head"]
    assert ax.get_ylim()[0] == 0


def test_alignment() -> None:
    ax = axes()
    diagonal, beside = [1.0, 0.1, 1e-3], [1.0, 0.0, 1e-7]
    assert plotting.plot_alignment(ax, STEPS, diagonal, beside) is ax
    assert data(ax) == [diagonal, beside]
    assert ax.get_yscale() == "log"
    assert legend(ax) == ["diagonal", "off-diagonal"]


@pytest.mark.parametrize("start", [0.0, 1e-16, 1e-3])
def test_balancedness(start: float) -> None:
    ax = axes()
    defects = [[start, start], [1e-3, 2e-3], [2e-3, 1e-3]]
    assert plotting.plot_balancedness(ax, STEPS, defects) is ax
    assert data(ax) == [[start, 1e-3, 2e-3], [start, 2e-3, 1e-3]]
    assert legend(ax) == ["layers 1, 2", "layers 2, 3"]
    # an exact start does not push what follows to the upper edge
    low, high = ax.get_ylim()
    assert 1e-10 < low < 1e-3
    assert high > 2e-3


def test_zeros_can_be_drawn() -> None:
    plotting.plot_balancedness(axes(), STEPS, [[0.0]] * 3).figure.canvas.draw()
    plotting.plot_alignment(axes(), STEPS, [0.0] * 3, [0.0] * 3).figure.canvas.draw()


def test_gap_history() -> None:
    ax = axes()
    assert plotting.plot_gap_history(ax, STEPS, [0.0, 0.02, 0.01]) is ax
    assert data(ax) == [[0.0, 0.02, 0.01]]
    assert ax.get_ylim()[0] == 0


DRAWINGS: list[Callable[[Axes], Axes]] = [
    lambda ax: plotting.plot_singular_values(ax, [5], {1: [1.0]}, {1: [1.0]}),
    lambda ax: plotting.plot_effective_rank(ax, [5], {"head": [1.0]}),
    lambda ax: plotting.plot_alignment(ax, [5], [1.0], [0.5]),
    lambda ax: plotting.plot_balancedness(ax, [5], [[1.0, 0.5]]),
    lambda ax: plotting.plot_gap_history(ax, [5], [0.1]),
]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_one_record_can_be_drawn_and_every_axis_is_labelled(draw: Callable[[Axes], Axes]) -> None:
    ax = draw(axes())
    assert ax.get_xlabel() == "optimizer step"
    assert ax.get_ylabel()
    ax.figure.canvas.draw()
