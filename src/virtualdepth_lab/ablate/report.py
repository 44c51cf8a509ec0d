"""The report of a study: report.md and figures, made from its table."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from virtualdepth.runs import REPORT, RESULT, UnusableError
from virtualdepth_lab.ablate.config import StudyConfig
from virtualdepth_lab.ablate.figures import (
    MOST_PANELS,
    draw_heat_map,
    draw_lines,
    draw_search,
    panels_left_out,
)
from virtualdepth_lab.ablate.queue import COMPLETE, DIVERGED, FAILED, versions
from virtualdepth_lab.ablate.summary import Spread, by_configuration, label, varying
from virtualdepth_lab.ablate.table import (
    UNFINISHED,
    Row,
    column_of,
    complete,
    metrics_of,
    read_table,
)

MOST_METRICS, MOST_LINES = 4, 60  # figures of so many metrics; lines of the table in the report


def write_result(study: StudyConfig, objective: str, folder: Path) -> None:
    """Write result.json: what the study is; the table says what it found.

    Args:
        study: which.
        objective: the metric that cells are compared by.
        folder: where.
    """
    content = {
        "command": "ablate",
        "study": study.to_json(),
        "objective": objective,
        "versions": versions(),
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")


def write_report(folder: Path) -> str:
    """Make report.md and the figures from result.json and the table.

    Args:
        folder: that a run left.

    Returns:
        What the study found, in lines for the terminal.

    Raises:
        UnusableError: if no run has left its files there.
    """
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        study, objective = StudyConfig(**content["study"]), str(content["objective"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableError(
            "folder",
            f"expected {RESULT} as `virtualdepth ablate` leaves it in {folder} but got "
            f"{type(error).__name__}: {error}",
        ) from error
    rows = read_table(folder)
    objective = column_of(objective, rows[0])
    axes = varying(rows, list(study.search or study.grid))
    figures = _figures(study, rows, axes, objective)
    parts = [
        f"# virtualdepth ablate {study.name}: {verdict(rows)}",
        f"Problem {study.problem}, objective {objective} ({study.direction}). A table of all cells "
        "is in results.csv and results.parquet; numbers below are medians over seeds, quartiles "
        "in brackets.",
        *_best(study, rows, axes, objective),
        *_table(study, rows, axes, objective),
        *_failures(rows),
        "## Run one cell again",
        "Seeds, configuration and threads are those of the table; on the same machine the numbers "
        "come out the same to the last digit.",
        f"```console\n{_again(rows, folder)}\n```",
        "## Figures",
        *(f"![{caption}]({name})\n\n{caption}" for name, (caption, _) in figures.items()),
        "## Settings",
        "\n".join(f"- {name}: {entry}" for name, entry in study.to_json().items()),
        "Versions: " + ", ".join(f"{k} {text}" for k, text in content["versions"].items()) + ".",
    ]
    for name, (_, figure) in figures.items():
        figure.savefig(folder / name, dpi=130)
    (folder / REPORT).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return "\n".join([verdict(rows), *_best(study, rows, axes, objective)[1:]])


def verdict(rows: list[Row]) -> str:
    """Count the cells by how they ended.

    Args:
        rows: of a table.

    Returns:
        Text.

    >>> verdict([{"status": "complete"}, {"status": "complete"}, {"status": "diverged"}])
    '3 cells: 2 complete, 1 diverged'
    >>> verdict([{"status": "complete"}])
    '1 cell: 1 complete'
    """
    counts = Counter(row["status"] for row in rows)
    found = ", ".join(f"{n} {status}" for status, n in counts.items())
    return f"{len(rows)} cell{'s' * (len(rows) > 1)}: {found}"


def _best(study: StudyConfig, rows: list[Row], axes: Sequence[str], objective: str) -> list[str]:
    done = complete(rows)
    if not done:
        return []
    choose = min if study.direction == "minimize" else max
    best = choose(done, key=lambda row: row[objective])
    lines = ["## Best", f"Best cell: `{best['cell']}` with {objective} {best[objective]:.4g}."]
    spreads = by_configuration(rows, axes, objective)
    if axes and len(study.seeds) > 1:
        point, spread = choose(spreads.items(), key=lambda entry: entry[1].median)
        lines.append(
            f"Best configuration over its seeds: {_point(axes, point)} with {objective} {spread}."
        )
    if study.search:
        lines.append(f"It has {_point(axes, [best[axis] for axis in axes])}.")
    return lines


def _point(axes: Sequence[str], point: Sequence[Any]) -> str:
    return ", ".join(f"{axis} {label(entry)}" for axis, entry in zip(axes, point, strict=True))


def _table(study: StudyConfig, rows: list[Row], axes: Sequence[str], objective: str) -> list[str]:
    if not axes or study.search or not complete(rows):
        return []
    metrics = [objective, *(m for m in metrics_of(rows) if m != objective)]
    spreads = {metric: by_configuration(rows, axes, metric) for metric in metrics}
    points = list(dict.fromkeys(tuple(row[axis] for axis in axes) for row in rows))
    lines = [[*axes, *metrics], ["--:"] * (len(axes) + len(metrics))]
    lines += [
        [*map(label, point), *(_shown(spreads[metric].get(point)) for metric in metrics)]
        for point in points[:MOST_LINES]
    ]
    more = len(points) - MOST_LINES
    rest = [f"{more} configurations more are in the table."] if more > 0 else []
    return ["## Table", "\n".join(f"| {' | '.join(line)} |" for line in lines), *rest]


def _shown(spread: Spread | None) -> str:
    return "–" if spread is None else str(spread)


def _failures(rows: list[Row]) -> list[str]:
    bad = [row for row in rows if row["status"] not in {COMPLETE, UNFINISHED}]
    if not bad:
        return ["## Failures", "None."]
    lines = [f"- `{row['cell']}`: {row['status']}: {row['reason']}" for row in bad[:MOST_LINES]]
    more = [f"- and {len(bad) - MOST_LINES} more"] if len(bad) > MOST_LINES else []
    return ["## Failures", "\n".join([*lines, *more])]


def _again(rows: list[Row], folder: Path) -> str:
    chosen = next((row for row in rows if row["status"] in {COMPLETE, DIVERGED, FAILED}), rows[0])
    return f"virtualdepth ablate {shlex.quote(str(folder))} --cell {shlex.quote(chosen['cell'])}"


def _figures(
    study: StudyConfig, rows: list[Row], axes: Sequence[str], objective: str
) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure."""
    if not axes or not complete(rows):
        return {}
    if study.search:
        caption = f"{objective} of every complete cell"
        return {f"{objective}-search.png": (caption, draw_search(rows, axes, objective))}
    found: dict[str, tuple[str, Figure]] = {}
    others = [metric for metric in metrics_of(rows) if metric != objective]
    left_out = panels_left_out(rows, axes)
    note = f"; the first {MOST_PANELS} panels of {MOST_PANELS + left_out}" if left_out else ""
    for metric in [objective, *others][:MOST_METRICS]:
        if not by_configuration(rows, axes, metric):
            continue
        name = metric.replace("/", "-")
        found[f"{name}-by-{axes[0]}.png"] = (
            f"{metric} by {axes[0]}: medians, and quartiles as bands, over seeds{note}",
            draw_lines(rows, axes, metric),
        )
        if len(axes) > 1:
            found[f"{name}-heat-map.png"] = (
                f"{metric} by {axes[0]} and {axes[1]}: medians over seeds{note}",
                draw_heat_map(rows, axes, metric),
            )
    return found
