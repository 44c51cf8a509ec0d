"""The result of the check for a reader: a table for the terminal, report.md, two figures."""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from virtualdepth import runs
from virtualdepth.plotting import plot_gap, plot_losses
from virtualdepth.runs import (
    escaped,
    figure_text,
    markdown_table,
    save_figures,
    settings,
    text_table,
)
from virtualdepth.verify._artifacts import GAP_FIGURE, LOSS_FIGURE
from virtualdepth.verify._config import exact
from virtualdepth.verify._results import ORDER_RANGE, Curve, VerifyResult, outside

LOSS_CAPTION = (
    "Training loss of the single layer and of the deep network, one panel for each learning rate."
)
GAP_CAPTION = "Largest gap against the learning rate, beside a line of slope 1."


def verdict(result: VerifyResult) -> str:
    """Return "passed", "failed" or "interrupted"."""
    return {True: "passed", False: "failed", None: "interrupted"}[result.passed]


def conclusion(result: VerifyResult) -> list[str]:
    """Return sentences: the order with its bounds, then what speaks against the equivalence."""
    low, high = ORDER_RANGE
    order = "undefined" if result.order is None else order_text(result.order)
    sentences = [f"order of the gap in the learning rate: {order} (expected {low} to {high})"]
    first = _first_loss(result)
    if first is not None:
        sentences.append(f"both losses before training: {first:#.5g}")
    if result.interrupted:
        finished, asked = len(result.rows), len(result.config["lrs"])
        sentences.append(f"interrupted: {finished} of {asked} learning rates were finished")
    sentences += result.failures
    ends = [row.loss_deep for row in result.rows if row.loss_deep is not None]
    if first is not None and any(end > 0.9 * first for end in ends):
        sentences.append(
            "the deep network hardly learned (its loss fell by less than a tenth), so the gap says "
            "little; choose a longer time or a larger init_scale"
        )
    return sentences


def order_text(order: float) -> str:
    """Write the order with three decimals, or with more if it would seem to be in the range."""
    text, (low, high) = f"{order:.3f}", ORDER_RANGE
    seems, is_inside = low <= float(text) <= high, low <= order <= high
    return text if seems == is_inside else outside(order, low, high)


def _first_loss(result: VerifyResult) -> float | None:
    """Return the loss before training; None where it was not finite, or nothing has finished."""
    return next((curve.loss_deep[0] for curve in result.curves if curve.loss_deep), None)


def table(result: VerifyResult) -> list[dict[str, str]]:
    """Return the rows as the tables show them: name of the column -> formatted number."""
    return [
        {
            "learning rate": exact(row.lr),
            "steps": str(row.steps),
            "gap": _number(row.gap, ".2e"),
            "loss, single": _number(row.loss_single, "#.5g"),
            "loss, deep": _number(row.loss_deep, "#.5g"),
            "seconds": f"{row.seconds:.1f}",
        }
        for row in result.rows
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def terminal_table(result: VerifyResult) -> str:
    """Return the table for the terminal, with the conclusion below."""
    parts = [text_table(table(result)), "\n".join(conclusion(result))]
    return "\n\n".join(filter(None, parts))


def write_report(result: VerifyResult, folder: Path) -> None:
    """Draw the figures and write report.md."""
    config = result.config
    paragraphs = [
        f"# virtualdepth verify: {verdict(result)}",
        f"One linear layer of {result.parameters['single']:,} parameters, trained as if it were "
        f"{config['optimizer_depth']} layers deep{_kind(config, 'optimizer_')}, beside an explicit "
        f"network of {config['depth']} layers{_kind(config)} with {result.parameters['deep']:,} "
        f"parameters, on {escaped(config['data'])}. Both start from one product of "
        f"{'balanced' if config['imbalance'] == 0 else 'such'} factors and take the same number of "
        f"full-batch gradient steps, up to time {exact(config['time'])} = learning rate × steps. "
        "The gap is the largest relative distance ‖W − W_deep‖ / ‖W_deep‖ (Frobenius) along the "
        "way.",
        "\n".join(f"- {escaped(note)}" for note in result.notes),
        markdown_table(table(result)),
        "\n".join(f"- {sentence}" for sentence in conclusion(result)),
        *save_figures(figures(result), folder),
        "The rule is exact for infinitesimal steps only, so the two runs differ by an amount "
        "proportional to the learning rate: the check asks for this order 1, and for gaps that "
        "fall. A wrong depth, structure or imbalance leaves a gap that hardly falls, of order near "
        "0.",
        *settings({name: _shown(value) for name, value in config.items()}, result.versions),
    ]
    runs.write_report(folder, paragraphs)


def figures(result: VerifyResult) -> dict[str, tuple[str, Figure]]:
    """Draw what the finished learning rates allow: name of the file -> caption and figure."""
    drawn = {}
    title = _title(result.config)
    finished = [
        curve for curve, row in zip(result.curves, result.rows, strict=True) if row.gap is not None
    ]
    if finished:
        figure = _loss_figure(finished)
        figure.suptitle(title)
        drawn[LOSS_FIGURE] = (LOSS_CAPTION, figure)
    gaps = {row.lr: row.gap for row in result.rows if row.gap}
    if len(gaps) > 1:
        figure = Figure(figsize=(5.5, 5.5), layout="constrained")
        ax = plot_gap(figure.subplots(), list(gaps), list(gaps.values()))
        ax.set_title(
            title if result.order is None else f"{title}\norder {order_text(result.order)}"
        )
        drawn[GAP_FIGURE] = (GAP_CAPTION, figure)
    return drawn


def _kind(config: dict[str, Any], of: str = "") -> str:
    """Name structure and imbalance where they are not the default, of the network or ``of``."""
    structure, imbalance = config[f"{of}structure"], config[f"{of}imbalance"]
    return ("" if structure == "matrix" else f", structure {structure}") + (
        "" if imbalance == 0 else f", imbalance {exact(imbalance)}"
    )


def _title(config: dict[str, Any]) -> str:
    network, rule = (
        f"depth {config[f'{of}depth']}{_kind(config, of)}" for of in ("", "optimizer_")
    )
    single = "" if rule == network else f", single layer trained at {rule}"
    return f"{figure_text(Path(config['data']).name)}, {network}{single}"


def _loss_figure(curves: list[Curve]) -> Figure:
    columns = math.ceil(len(curves) ** 0.5)
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(1 + 3.5 * columns, 1 + 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for number, (ax, curve) in enumerate(zip(panels.flat, curves, strict=False)):
        plot_losses(ax, curve.time, curve.loss_single, curve.loss_deep)
        ax.set_title(f"learning rate {exact(curve.lr)}", fontsize="medium")
        if number > 0:
            ax.get_legend().remove()
        if number % columns > 0:
            ax.set_ylabel("")
        lowest = number + columns >= len(curves)  # of its column, whose last place may be empty
        ax.tick_params(labelbottom=lowest)
        if not lowest:
            ax.set_xlabel("")
    for ax in panels.flat[len(curves) :]:
        ax.remove()
    return figure


def _shown(value: object) -> str:
    if value is None or value == []:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
