"""The norms of components over the run, and ranks."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from virtualdepth.plotting import COLORS, color_cycle
from virtualdepth_lab.reproduce.drawing import panels
from virtualdepth_lab.reproduce.result import Record, Reproduction
from virtualdepth_lab.reproduce.rows import where

SHOWN = 6


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the components of every run, and the ranks."""
    ranks = where(result.measured, part="ranks")
    return {
        "Norms of the six largest components over training, from three sizes of the start.": (
            _components(result)
        ),
        "The same for the local components of a tree of factors, at its three nodes.": (
            _hierarchical(result)
        ),
        "Norms of the components of two small completions under gradient descent (of the tree: at "
        "its top), and dashed the law, integrated with the slopes of the run.": _law(result),
        "Rank of the odd-even matricisation of a random network, deep and shallow.": _ranks(ranks),
    }


def _components(result: Reproduction) -> Figure:
    rows = where(result.measured, part="components")
    figure, [axes] = panels(1, len(rows), size=(4.0, 3.2), sharey=True)
    for ax, row in zip(axes, rows, strict=True):
        _curves(ax, result, row)
        ax.set_title(f"start {row['start']:g}: error {row['error']:.2g}")
    axes[0].set_ylabel("norm of a component")
    axes[0].set_ylim(bottom=0)  # when all panels, which share it, are drawn
    return figure


def _hierarchical(result: Reproduction) -> Figure:
    rows = where(result.measured, part="hierarchical")
    figure, [axes] = panels(1, len(rows), size=(4.0, 3.2))
    for ax, row in zip(axes, rows, strict=True):
        _curves(ax, result, row)
        ax.set_ylim(bottom=0)
        ax.set_title(f"axes {row['axes'].replace(' ', ', ')}")
    axes[0].set_ylabel("norm of a local component")
    return figure


def _curves(ax: Axes, result: Reproduction, row: Record) -> None:
    name = f"{row['part']}_{row['start']:g}"
    steps, norms = (result.arrays[f"{name}_{end}"] for end in ("steps", row["axes"]))
    count = min(SHOWN, norms.shape[1])
    for place, color in zip(range(count), color_cycle(count), strict=True):
        ax.plot(steps, norms[:, place], color=color)
    ax.set(xlabel="step", xlim=(0, steps[-1]))
    ax.locator_params(axis="x", nbins=4)


def _law(result: Reproduction) -> Figure:
    rows = where(result.measured, part="law")
    figure, [axes] = panels(1, len(rows), size=(4.8, 3.2))
    for ax, row in zip(axes, rows, strict=True):
        time, norms, law = (
            result.arrays[f"law_{row['kind']}{end}"] for end in ("_time", "", "_law")
        )
        for place, color in zip(range(norms.shape[1]), color_cycle(norms.shape[1]), strict=True):
            ax.plot(time, norms[:, place], color=color, linewidth=2.6, alpha=0.5)
            ax.plot(time, law[:, place], "--", color=color, linewidth=1.1)
        ax.plot([], [], color="0.3", linewidth=2.6, alpha=0.5, label="gradient descent")
        ax.plot([], [], "--", color="0.3", linewidth=1.1, label="law")
        ax.set(xlabel="time = learning rate × step", xlim=(0, time[-1]), title=row["kind"])
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("norm of a component")
    axes[0].legend(frameon=False, loc="center right")
    return figure


def _ranks(rows: list[Record]) -> Figure:
    rows = where(rows, seed=rows[0]["seed"])
    figure, [[ax]] = panels(1, 1, size=(6.0, 3.2))
    for place, row in enumerate(rows):
        for shift, name, color in (
            (-0.2, "deep", COLORS["blue"]),
            (0.2, "shallow", COLORS["vermilion"]),
        ):
            height = row[f"{name}_odd_even"]
            label = f"{name} network" if place == 0 else None
            ax.bar(place + shift, height, 0.36, color=color, label=label)
            ax.annotate(str(height), (place + shift, height), ha="center", va="bottom")
    names = [
        f"order {row['order']}, dimension {row['dimension']},\n{row['channels']} channels"
        for row in rows
    ]
    ax.set_xticks(range(len(rows)), names)
    ax.set(ylabel="rank, odd axes against even ones")
    ax.set_ylim(top=1.12 * max(row["deep_odd_even"] for row in rows))
    ax.set_axisbelow(True)  # the grid
    ax.legend(frameon=False, loc="upper left")
    return figure
