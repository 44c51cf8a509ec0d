"""The table of a study: a row for each cell, as CSV for people and Parquet for programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pyarrow as pa
from optuna.trial import FrozenTrial
from pyarrow import csv, parquet

from virtualdepth.runs import UnusableError, replacing
from virtualdepth_lab.ablate.cells import Cell, Status
from virtualdepth_lab.ablate.study import StudyConfig, value

CSV, PARQUET = "results.csv", "results.parquet"
RUN = ("seconds", "threads", "started", "attempts", "worker")  # columns about the run of a cell
_CELL = ("cell", "status", "reason", "problem", "seed")  # columns about which cell it is
# Before a name that another column has; a name that begins so gets one more, so all stay different.
_OF_ARGUMENT, _OF_METRIC = "argument_", "metric_"
_FORMULA = tuple("=+-@\t\r\n")  # what a spreadsheet takes for the start of one
Row = dict[str, Any]


def rows_of(study: StudyConfig, cells: list[Cell], trials: Mapping[str, FrozenTrial]) -> list[Row]:
    """Make a row for each cell, in their order, from its trial by the cell's name."""
    rows = [_row(study, cell, trials.get(cell.name)) for cell in cells]
    names = dict.fromkeys(name for row in rows for name in row)
    # Metrics, which a row may lack, come before the columns of the run, which all rows have.
    order = sorted(names, key=_is_of_run)
    return [{name: row.get(name) for name in order} for row in rows]


def _row(study: StudyConfig, cell: Cell, trial: FrozenTrial | None) -> Row:
    attributes = {} if trial is None else trial.user_attrs
    config = dict(cell.config)
    for name in study.search:
        drawn = None if trial is None else trial.params.get(name)
        config[name] = None if drawn is None else value(name, drawn)
    is_finished = trial is not None and trial.state.is_finished()
    result = attributes.get("result", {}) if is_finished else {}
    run = attributes.get("run", {})
    row: Row = {
        "cell": cell.name,
        "status": result.get("status", str(Status.UNFINISHED)),
        "reason": result.get("reason"),
        "problem": study.problem,
        **{argument_column(name): entry for name, entry in config.items()},
        "seed": cell.seed,
    }
    for name, number in result.get("metrics", {}).items():
        is_taken = name in row or _is_of_run(name) or name.startswith(_OF_METRIC)
        column = f"{_OF_METRIC}{name}" if is_taken else name
        row[column] = float(number) if isinstance(number, str) else number
    started = trial.datetime_start if trial is not None else None
    return row | {
        "seconds": result.get("seconds"),
        "threads": result.get("threads"),
        "started": None if started is None else started.isoformat(timespec="seconds"),
        "attempts": run.get("attempt", 0),
        "worker": run.get("worker"),
        **{f"version_{name}": text for name, text in run.get("versions", {}).items()},
    }


def argument_column(name: str) -> str:
    """Return the column of an argument: "argument_seconds" where "seconds" is another's name."""
    is_taken = name in _CELL or _is_of_run(name) or name.startswith((_OF_ARGUMENT, _OF_METRIC))
    return f"{_OF_ARGUMENT}{name}" if is_taken else name


def metric_column(metric: str, row: Mapping[str, Any]) -> str:
    """Return the column of a metric: "metric_seconds" where "seconds" is another column's name."""
    column = f"{_OF_METRIC}{metric}"
    return column if column in row else metric


def metrics_of(rows: list[Row]) -> list[str]:
    """Return the columns with metrics: those after the seed that do not describe the run."""
    names = list(rows[0])
    return [name for name in names[names.index("seed") + 1 :] if not _is_of_run(name)]


def _is_of_run(name: str) -> bool:
    return name in RUN or name.startswith("version_")


def complete(rows: list[Row]) -> list[Row]:
    """Return the rows of complete cells, which have metrics."""
    return [row for row in rows if row["status"] == Status.COMPLETE]


def write_table(rows: list[Row], folder: Path) -> None:
    """Write both files, each whole or not at all."""
    table = pa.table({name: _column([row[name] for row in rows]) for name in rows[0]})
    with replacing(folder, CSV) as for_people, replacing(folder, PARQUET) as for_programs:
        csv.write_csv(_without_formulas(table), for_people)
        parquet.write_table(table, for_programs)


def _without_formulas(table: pa.Table) -> pa.Table:
    """Put a quote before text that a spreadsheet would run: =1+1, but not -inf."""
    columns = [
        pa.array(list(map(_quoted, column.to_pylist())), pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=list(map(_quoted, table.column_names)))


def _quoted(text: str | None) -> str | None:
    if text is None or not normalize("NFKC", text).startswith(_FORMULA):  # of any width
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _column(entries: list[Any]) -> pa.Array:
    """Make integers and floats floats, and any other mixture text."""
    kinds = {type(entry) for entry in entries if entry is not None}
    if kinds <= {int, float} and float in kinds:
        return pa.array([None if e is None else float(e) for e in entries], pa.float64())
    if len(kinds) > 1:
        return pa.array([None if e is None else str(e) for e in entries], pa.string())
    return pa.array(entries)


def read_table(folder: Path) -> list[Row]:
    """Read the rows back."""
    path = folder / PARQUET
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
        for row in rows:
            Status(row["status"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UnusableError(
            "folder",
            f"expected {PARQUET} as `virtualdepth ablate` leaves it in {folder} but got: "
            f"{' '.join(str(error).split())}",
        ) from error
    return rows
