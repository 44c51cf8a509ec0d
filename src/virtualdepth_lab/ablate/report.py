"""The report of a study: report.md and figures, made from its table."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from itertools import count as count_from
from pathlib import Path

from matplotlib.figure import Figure

from virtualdepth import runs
from virtualdepth_lab.ablate.cells import Status
from virtualdepth_lab.ablate.figures import (
    MOST_PANELS,
    draw_heat_map,
    draw_lines,
    draw_search,
    panels_left_out,
)
from virtualdepth_lab.ablate.queue import cell_versions
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.summary import Point, by_configuration, label, varying
from virtualdepth_lab.ablate.table import (
    CSV,
    PARQUET,
    Row,
    argument_column,
    complete,
    metric_column,
    metrics_of,
    read_table,
)

OWN = (CSV, PARQUET, runs.RESULT, runs.REPORT)  # what report and table are made of
MOST_METRICS, MOST_LINES = 4, 60  # metrics with figures; lines of a table or list in the report


def write_result(study: StudyConfig, objective: str, folder: Path) -> None:
    """Write result.json: what the study is; the table says what it found."""
    what = {"command": "ablate", "study": study.to_json(), "objective": objective}
    runs.write_result(folder, {**what, "versions": cell_versions()})


def write_report(folder: Path) -> str:
    """Make report.md and the figures from result.json and the table; return lines to print."""
    with runs.reading_result(folder, "ablate") as content:
        study, objective = StudyConfig(**content["study"]), str(content["objective"])
        ran = {str(name): str(text) for name, text in content["versions"].items()}
    rows = read_table(folder)
    objective = metric_column(objective, rows[0])
    axes = varying(rows, list(map(argument_column, study.search or study.grid)))
    best = _best(study, rows, axes, objective, runs.escaped)
    parts = [
        f"# virtualdepth ablate {runs.escaped(study.name)}: {count(rows)}",
        f"Problem {runs.escaped(study.problem)}, objective {runs.escaped(objective)} "
        f"({study.direction}). A table of all cells is in results.csv and results.parquet; numbers "
        "below are medians over seeds, quartiles in brackets.",
        *(["## Best", *best] if best else []),
        *_table(study, rows, axes, objective),
        "## Failures",
        _failures(rows),
        "## Run one cell again",
        "Seeds, configuration and threads are those of the table; on the same machine the numbers "
        "come out the same to the last digit.",
        f"```console\n{_command(rows, folder)}\n```",
        "## Figures",
        *runs.save_figures(_figures(study, rows, axes, objective), folder),
        *runs.settings(study.to_json(), ran),
    ]
    runs.write_report(folder, parts)
    return "\n".join([count(rows), *_best(study, rows, axes, objective, runs.one_line)])


def count(rows: list[Row]) -> str:
    """Count the cells by their status, as in "3 cells: 2 complete, 1 diverged"."""
    counts = Counter(row["status"] for row in rows)
    found = ", ".join(f"{n} {status}" for status, n in counts.items())
    return f"{len(rows)} cell{'s' * (len(rows) > 1)}: {found}"


def _best(
    study: StudyConfig,
    rows: list[Row],
    axes: Sequence[str],
    objective: str,
    written: Callable[[str], str],
) -> list[str]:
    """Say which cell and configuration are best; ``written`` writes names for where they go."""
    done = complete(rows)
    if not done:
        return []
    choose = min if study.direction == "minimize" else max
    best = choose(done, key=lambda row: row[objective])
    metric = written(objective)
    lines = [f"Best cell: {runs.code(best['cell'])} with {metric} {best[objective]:.4g}."]
    if axes and len(study.seeds) > 1:
        found = by_configuration(rows, axes, objective)
        point, quartiles = choose(found.items(), key=lambda entry: entry[1].median)
        lines.append(
            f"Best configuration over its seeds: {written(_shown(axes, point))} with {metric} "
            f"{quartiles}."
        )
    if study.search:
        lines.append(f"It has {written(_shown(axes, tuple(best[axis] for axis in axes)))}.")
    return lines


def _shown(axes: Sequence[str], point: Point) -> str:
    return ", ".join(f"{axis} {label(entry)}" for axis, entry in zip(axes, point, strict=True))


def _table(study: StudyConfig, rows: list[Row], axes: Sequence[str], objective: str) -> list[str]:
    if not axes or study.search or not complete(rows):
        return []
    metrics = [objective, *(metric for metric in metrics_of(rows) if metric != objective)]
    found = {metric: by_configuration(rows, axes, metric) for metric in metrics}
    points = list(dict.fromkeys(tuple(row[axis] for axis in axes) for row in rows))
    lines = [
        {
            **dict(zip(axes, map(label, point), strict=True)),
            **{metric: str(found[metric].get(point, "–")) for metric in metrics},
        }
        for point in points[:MOST_LINES]
    ]
    more = len(points) - MOST_LINES
    rest = [f"{more} configurations more are in the table."] if more > 0 else []
    return ["## Table", runs.markdown_table(lines), *rest]


def _failures(rows: list[Row]) -> str:
    bad = [row for row in rows if row["status"] not in {Status.COMPLETE, Status.UNFINISHED}]
    if not bad:
        return "None."
    lines = [
        f"- {runs.code(row['cell'])}: {row['status']}: {runs.escaped(row['reason'])}"
        for row in bad[:MOST_LINES]
    ]
    more = [f"- and {len(bad) - MOST_LINES} more"] if len(bad) > MOST_LINES else []
    return "\n".join([*lines, *more])


def _command(rows: list[Row], folder: Path) -> str:
    """Return the command that runs one cell again, if possible one that ended by itself."""
    ended = {Status.COMPLETE, Status.DIVERGED, Status.FAILED}
    chosen = next((row for row in rows if row["status"] in ended), rows[0])
    place = os.path.join(".", folder) if str(folder).startswith("-") else str(folder)
    return shlex.join(["virtualdepth", "ablate", place, f"--cell={chosen['cell']}"])


def _figures(
    study: StudyConfig, rows: list[Row], axes: Sequence[str], objective: str
) -> dict[str, tuple[str, Figure]]:
    """Map the names of files to captions and figures."""
    if not axes or not complete(rows):
        return {}
    if study.search:
        caption = f"{objective} of every complete cell"
        name = _file_name((), objective, "search")
        return {name: (caption, draw_search(rows, axes, objective))}
    found: dict[str, tuple[str, Figure]] = {}
    others = [metric for metric in metrics_of(rows) if metric != objective]
    left_out = panels_left_out(rows, axes)
    note = f"; the first {MOST_PANELS} panels of {MOST_PANELS + left_out}" if left_out else ""
    for metric in [objective, *others][:MOST_METRICS]:
        if not by_configuration(rows, axes, metric):
            continue
        found[_file_name(found, metric, "by", axes[0])] = (
            f"{metric} by {axes[0]}: medians, and quartiles as bands, over seeds{note}",
            draw_lines(rows, axes, metric),
        )
        if len(axes) > 1:
            found[_file_name(found, metric, "heat-map")] = (
                f"{metric} by {axes[0]} and {axes[1]}: medians over seeds{note}",
                draw_heat_map(rows, axes, metric),
            )
    return found


def _file_name(taken: Iterable[str], *parts: str) -> str:
    """Name a figure; "a/b" and "a-b" get different names, also where case does not count."""
    name = "-".join(map(runs.file_name, parts))
    known = {other.lower() for other in taken}
    numbered = (f"{name}-{number}.png" for number in count_from(2))
    return next(file for file in chain([f"{name}.png"], numbered) if file.lower() not in known)
