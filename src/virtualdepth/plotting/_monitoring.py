"""Figures of a run: spectrum, effective rank, alignment, balance and gap over steps."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from virtualdepth.maths import StructureName
from virtualdepth.plotting._style import PALETTE, draw_grid

Curve = Sequence[float]

_DASHES = (0, (4, 2))
_SIZES: Mapping[StructureName, str] = {
    "matrix": "singular value",
    "rows": "norm of a row",
    "columns": "norm of a column",
    "diagonal": "absolute entry",
    "circulant": "size at a frequency",
}


def plot_singular_values(
    ax: Axes,
    steps: Sequence[int],
    values: Mapping[int, Curve],
    theory: Mapping[int, Curve] | None = None,
    *,
    structure: StructureName = "matrix",
) -> Axes:
    """Draw singular values over steps, and those that theory predicts as dashes over them.

    Of another structure than "matrix" they are the sizes of its blocks; the axis says which.

    A name keeps its colour where its singular value crosses another. Colours repeat after seven
    names, with dotted lines.

    Args:
        ax: where to draw.
        steps: of the records, rising.
        values: name -> one singular value per record, NaN where it was not recorded.
        theory: the predicted ones, in the same form.
        structure: of the weight, see :class:`virtualdepth.EndToEndSGD`.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> ax = plot_singular_values(ax, [0, 10], {1: [0.1, 2.0], 2: [0.1, 0.5]}, {1: [0.1, 1.9]})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['$σ_{1}$', '$σ_{2}$', 'theory']
    """
    faded = 1.0 if theory is None else 0.4
    for name, curve in values.items():
        label = f"$σ_{{{name}}}$"
        ax.plot(
            steps, curve, _line(name), color=_color(name), linewidth=2.6, alpha=faded, label=label
        )
    for name, curve in (theory or {}).items():
        ax.plot(steps, curve, color=_color(name), linewidth=1.2, linestyle=_DASHES)
    if theory:
        ax.plot([], [], color="0.3", linewidth=1.2, linestyle=_DASHES, label="theory")
    ax.set_ylabel(_SIZES[structure])
    ax.set_ylim(bottom=0)
    _finish(ax, steps)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _color(name: int) -> str:
    """Return the colour of a name, 1, 2, ..."""
    return PALETTE[(name - 1) % len(PALETTE)]


def _line(name: int) -> str:
    """Return the line style of a name: dotted for every second seven."""
    return "-" if (name - 1) // len(PALETTE) % 2 == 0 else ":"


def plot_effective_rank(ax: Axes, steps: Sequence[int], ranks: Mapping[str, Curve]) -> Axes:
    """Draw the effective rank of one or several matrices over steps.

    Args:
        ax: where to draw.
        steps: of the records, rising.
        ranks: name of the matrix -> one effective rank per record.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_effective_rank(Figure().subplots(), [0, 10], {"head": [4.0, 1.5]})
    >>> ax.get_ylabel()
    'effective rank'
    """
    for (name, curve), color in zip(ranks.items(), cycle(PALETTE), strict=False):
        ax.plot(steps, curve, color=color, linewidth=1.8, label=name)
    ax.set_ylabel("effective rank")
    ax.set_ylim(bottom=0)
    _finish(ax, steps)
    ax.legend(frameon=False)
    return ax


def plot_alignment(ax: Axes, steps: Sequence[int], diagonal: Curve, off_diagonal: Curve) -> Axes:
    """Draw the mean sizes of the diagonal and of the other entries of U^T G V over steps.

    Args:
        ax: where to draw.
        steps: of the records, rising.
        diagonal: one mean per record.
        off_diagonal: the same for the entries off the diagonal.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_alignment(Figure().subplots(), [0, 10], [1.0, 0.5], [0.8, 0.01])
    >>> [line.get_label() for line in ax.get_lines()]
    ['diagonal', 'off-diagonal']
    """
    ax.plot(steps, diagonal, color=PALETTE[0], linewidth=1.8, label="diagonal")
    ax.plot(steps, off_diagonal, "--", color=PALETTE[1], linewidth=1.8, label="off-diagonal")
    if max(*diagonal, *off_diagonal) > 0:  # else there is no logarithm to draw
        ax.set_yscale("log")
    ax.set_ylabel(r"mean $|(U^\top G V)_{rs}|$")
    _finish(ax, steps)
    ax.legend(frameon=False)
    return ax


def plot_balancedness(ax: Axes, steps: Sequence[int], defects: Sequence[Sequence[float]]) -> Axes:
    r"""Draw how far each pair of adjacent layers is from balance, relative to their norms.

    Args:
        ax: where to draw.
        steps: of the records, rising.
        defects: for each record one relative defect for each pair, from the first layers on.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_balancedness(Figure().subplots(), [0, 10], [[1e-9, 1e-8], [1e-4, 1e-3]])
    >>> [line.get_label() for line in ax.get_lines()]
    ['layers 1, 2', 'layers 2, 3']
    """
    pairs = zip(zip(*defects, strict=True), cycle(PALETTE), strict=False)
    for number, (curve, color) in enumerate(pairs, start=1):
        label = f"layers {number}, {number + 1}"
        ax.plot(steps, curve, color=color, linewidth=1.8, label=label)
    largest = max(max(row) for row in defects)
    if largest > 0:  # else there is no logarithm to draw
        ax.set_yscale("log")
        # an exactly balanced start has 1e-16, which would squeeze the rest of the figure
        ax.set_ylim(bottom=largest * 1e-6)
    ax.set_ylabel("relative imbalance of adjacent layers")
    _finish(ax, steps)
    ax.legend(frameon=False)
    return ax


def plot_gap_history(ax: Axes, steps: Sequence[int], gaps: Curve) -> Axes:
    """Draw the gap between single layer and deep network over steps.

    Args:
        ax: where to draw.
        steps: of the records, rising.
        gaps: one per record.

    Returns:
        ``ax``.

    >>> from matplotlib.figure import Figure
    >>> ax = plot_gap_history(Figure().subplots(), [0, 10], [0.0, 0.01])
    >>> ax.get_xlabel()
    'optimizer step'
    """
    ax.plot(steps, gaps, color=PALETTE[1], linewidth=1.8)
    ax.set_ylabel(r"gap $\|W - W_\mathrm{deep}\|_F \,/\, \|W_\mathrm{deep}\|_F$")
    ax.set_ylim(bottom=0)
    _finish(ax, steps)
    return ax


def _finish(ax: Axes, steps: Sequence[int]) -> None:
    """Label the axis of steps and draw the grid."""
    ax.set_xlabel("optimizer step")
    if steps[0] < steps[-1]:
        ax.set_xlim(steps[0], steps[-1])
    draw_grid(ax)
