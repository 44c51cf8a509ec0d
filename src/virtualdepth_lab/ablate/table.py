"""The table of a study: a row for each cell, as CSV for people and Parquet for programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from optuna.trial import FrozenTrial
from pyarrow import csv, parquet

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import Cell
from virtualdepth_lab.ablate.config import StudyConfig, value
from virtualdepth_lab.ablate.queue import COMPLETE

CSV, PARQUET = "results.csv", "results.parquet"
UNFINISHED = "unfinished"
RUN = ("seconds", "threads", "started", "attempts", "worker")
Row = dict[str, Any]


def rows_of(study: StudyConfig, cells: list[Cell], trials: Mapping[str, FrozenTrial]) -> list[Row]:
    """Make the rows of a study.

    Args:
        study: which.
        cells: all of them.
        trials: name of a cell -> its row in the storage.

    Returns:
        A row for each cell, in their order; metrics of complete cells only.
    """
    rows = [_row(study, cell, trials.get(cell.name)) for cell in cells]
    names = dict.fromkeys(name for row in rows for name in row)
    # metrics, which rows may lack, before what every row has of its run
    order = sorted(names, key=_is_of_run)
    return [{name: row.get(name) for name in order} for row in rows]


def _row(study: StudyConfig, cell: Cell, trial: FrozenTrial | None) -> Row:
    attributes = {} if trial is None else trial.user_attrs
    config = dict(cell.config)
    for name in study.search:
        drawn = None if trial is None else trial.params.get(name)
        config[name] = None if drawn is None else value(name, drawn)
    finished = trial is not None and trial.state.is_finished()
    result = attributes.get("result", {}) if finished else {}
    run = attributes.get("run", {})
    row: Row = {
        "cell": cell.name,
        "status": result.get("status", UNFINISHED),
        "reason": result.get("reason"),
        "problem": study.problem,
        **config,
        "seed": cell.seed,
    }
    for name, number in result.get("metrics", {}).items():
        row[metric_column(name, row)] = float(number) if isinstance(number, str) else number
    started = trial.datetime_start if trial is not None else None
    return row | {
        "seconds": result.get("seconds"),
        "threads": result.get("threads"),
        "started": None if started is None else started.isoformat(timespec="seconds"),
        "attempts": run.get("attempt", 0),
        "worker": run.get("worker"),
        **{f"version_{name}": text for name, text in run.get("versions", {}).items()},
    }


def metric_column(name: str, row: Mapping[str, Any]) -> str:
    """Name the column of a metric.

    Args:
        name: of the metric.
        row: the columns that there are.

    Returns:
        ``name``, after "metric_" if it is taken.
    """
    return f"metric_{name}" if name in row or _is_of_run(name) else name


def column_of(name: str, row: Mapping[str, Any]) -> str:
    """Find the column that :func:`metric_column` named.

    Args:
        name: of the metric.
        row: of a table.

    Returns:
        Name of the column.

    >>> column_of("seconds", {"seconds": 1.5, "metric_seconds": 7.0})
    'metric_seconds'
    """
    return f"metric_{name}" if f"metric_{name}" in row else name


def metrics_of(rows: list[Row]) -> list[str]:
    """List the columns with metrics.

    Args:
        rows: of a table.

    Returns:
        Names: of what comes after the seed and is not of the run.
    """
    names = list(rows[0])
    return [name for name in names[names.index("seed") + 1 :] if not _is_of_run(name)]


def _is_of_run(name: str) -> bool:
    return name in RUN or name.startswith("version_")


def write_table(rows: list[Row], folder: Path) -> None:
    """Write both files, each whole or not at all.

    Args:
        rows: of :func:`rows_of`.
        folder: where.
    """
    columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
    table = pa.table(columns)
    for name, write in ((CSV, csv.write_csv), (PARQUET, parquet.write_table)):
        path = folder / f"{name}.part"
        write(table, path)
        path.replace(folder / name)


def _column(entries: list[Any]) -> pa.Array:
    kinds = {type(entry) for entry in entries if entry is not None}
    if kinds <= {int, float} and float in kinds:
        return pa.array([None if e is None else float(e) for e in entries], pa.float64())
    if len(kinds) > 1:
        return pa.array([None if e is None else str(e) for e in entries], pa.string())
    return pa.array(entries)


def read_table(folder: Path) -> list[Row]:
    """Read the table back.

    Args:
        folder: where.

    Returns:
        Its rows.

    Raises:
        UnusableError: if there is none, or it cannot be read.
    """
    path = folder / PARQUET
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UnusableError(
            "folder",
            f"expected {PARQUET} as `virtualdepth ablate` leaves it in {folder} but got: "
            f"{' '.join(str(error).split())}",
        ) from error
    return rows


def complete(rows: list[Row]) -> list[Row]:
    """Choose the rows with metrics.

    Args:
        rows: of a table.

    Returns:
        Those of complete cells.
    """
    return [row for row in rows if row["status"] == COMPLETE]
