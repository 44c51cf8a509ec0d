"""Figures of the regression runs."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth_lab.reproduce.result import Reproduction

# from the palette of Okabe and Ito: told apart by readers with any colour vision
DEPTHS = {
    "depth 1 (SGD)": "#000000",
    "depth 1.5": "#E69F00",
    "depth 2": "#D55E00",
    "depth 3": "#56B4E9",
    "depth 4": "#0072B2",
    "depth 8": "#CC79A7",
}
RIVALS = {
    "depth 1 (SGD)": ("#000000", "-"),
    "depth 2": ("#D55E00", "-"),
    "depth 3": ("#56B4E9", "-"),
    "depth 1, scalar normaliser": ("#000000", "--"),
    "depth 2, gain divided out": ("#D55E00", ":"),
    "AdaGrad": ("#999999", "-"),
    "AdaDelta": ("#999999", "--"),
    "Adam": ("#009E73", "-"),
    "depth 1, Barzilai-Borwein": ("#0072B2", "-"),
    "L-BFGS": ("#CC79A7", "-"),
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw losses against iterations: of the depths, and of their rivals.

    Args:
        result: of the run.

    Returns:
        Caption to figure.
    """
    rows = [row for row in result.measured if "method" in row]
    starts = list(dict.fromkeys(row["start"] for row in rows))
    return {
        "Loss over the optimum against iterations, every depth as one vector at the constant "
        "learning rate that ends lowest; crosses: explicit networks, at their own.": _depths(
            result, starts
        ),
        "Depths 2 and 3 beside other ways to step, each at the constant rate that ends lowest; "
        "Barzilai-Borwein and L-BFGS choose their own steps (for them iterations are evaluations "
        "of loss and gradient).": _rivals(result, starts),
    }


def _depths(result: Reproduction, starts: Sequence[str]) -> Figure:
    figure, panels = _panels(result, starts)
    for (power, start), ax in panels.items():
        for name, colour in DEPTHS.items():
            _curve(ax, result, power, start, name, color=colour, label=name)
        for depth in ("depth 2", "depth 3"):
            name = f"explicit network, {depth}"
            style = {"marker": "x", "linestyle": "none", "markevery": 8, "markersize": 5}
            _curve(ax, result, power, start, name, color=DEPTHS[depth], label=name, **style)
    _legend(figure, columns=4)
    return figure


def _rivals(result: Reproduction, starts: Sequence[str]) -> Figure:
    figure, panels = _panels(result, starts)
    for (power, start), ax in panels.items():
        for name, (colour, dashes) in RIVALS.items():
            _curve(ax, result, power, start, name, color=colour, linestyle=dashes, label=name)
    _legend(figure, columns=4)
    return figure


def _panels(
    result: Reproduction, starts: Sequence[str]
) -> tuple[Figure, dict[tuple[int, str], Axes]]:
    figure = Figure(figsize=(10, 3.2 * len(starts) + 1.4), layout="constrained")
    grid = figure.subplots(len(starts), 2, squeeze=False, sharex=True)
    panels = {}
    for line, start in zip(grid, starts, strict=True):
        for ax, power in zip(line, (2, 4), strict=True):
            ax.set(xscale="log", yscale="log", title=rf"$\ell_{power}$, start {start}")
            ax.set_xlim(1, result.config["steps"])
            top = 1.1 * result.arrays[f"{power}|{start}|depth 1 (SGD)"][0]
            ax.set_ylim(0.95, top)
            ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 50, 100) if tick < top]
            ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_yticks([], minor=True)
            ax.set_ylabel("loss / smallest loss")
            ax.grid(color="0.9")
            panels[power, start] = ax
    for ax in grid[-1]:
        ax.set_xlabel("iterations")
    return figure, panels


def _curve(
    ax: Axes, result: Reproduction, power: int, start: str, name: str, **style: object
) -> None:
    iterations = result.arrays["iterations"]
    curve = result.arrays[f"{power}|{start}|{name}"]
    ax.plot(iterations[1:], curve[1:], linewidth=1.4, **style)  # type: ignore[arg-type]


def _legend(figure: Figure, columns: int) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
