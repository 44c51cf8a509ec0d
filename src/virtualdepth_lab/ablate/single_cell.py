"""One cell in this process: ``--dry-run``, which times it, and ``--cell``, which runs it again."""

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import Cell
from virtualdepth_lab.ablate.config import StudyConfig, value
from virtualdepth_lab.ablate.matrix import Metrics
from virtualdepth_lab.ablate.multi_device import run
from virtualdepth_lab.ablate.problems import lowest
from virtualdepth_lab.ablate.table import PARQUET, column_of, metrics_of, read_table
from virtualdepth_lab.ablate.workers import threads_per_worker

DONE, SOME_FAILED = 0, 1
_SHORT = 60.0  # seconds of a cell


def estimate(study: StudyConfig, cells: Sequence[Cell], workers: int) -> int:
    """Time the cell in the middle of the list, and tell how long all take.

    Args:
        study: checked.
        cells: of it.
        workers: processes that will share them.

    Returns:
        The exit status.
    """
    cell = cells[len(cells) // 2]
    torch.set_num_threads(threads_per_worker(workers))
    seconds, end = _timed(study, cell)
    if seconds < _SHORT:  # most of which may be what is loaded at the first step
        seconds, end = _timed(study, cell)
    print(
        f"{len(cells)} cell{'s' * (len(cells) > 1)}; {cell.name} took {seconds:.1f} s{end}. "
        f"If all are like it, {workers} worker{'s' * (workers > 1)} will take about "
        f"{_duration(seconds * math.ceil(len(cells) / workers))}. Nothing was kept."
    )
    return DONE


def _timed(study: StudyConfig, cell: Cell) -> tuple[float, str]:
    begin, end = time.perf_counter(), ""
    try:
        _run_here(study, {**lowest(study), **cell.config}, cell.seed)
    except FloatingPointError as error:
        end = f" and diverged ({error})"
    return time.perf_counter() - begin, end


def _run_here(study: StudyConfig, config: Mapping[str, Any], seed: int) -> Metrics:
    """Run one cell in this process; an error of its own is shown where it arose, and told."""
    try:
        return run(study, config, seed)
    except (FloatingPointError, UnusableError):
        raise
    except Exception as error:
        traceback.print_exc()
        raise UnusableError(
            "problem",
            f"expected a cell that runs but got {type(error).__name__}: "
            f"{' '.join(str(error).split())}",
        ) from error


def _duration(seconds: float) -> str:
    """Write a time: seconds below two minutes, minutes below two hours, else hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def run_again(study: StudyConfig, cells: Sequence[Cell], name: str, folder: Path) -> int:
    """Run one cell and set it beside the table.

    Args:
        study: checked.
        cells: of it.
        name: of the cell.
        folder: with the table, if there is one yet.

    Returns:
        The exit status: 0 unless it ends otherwise than recorded.

    Raises:
        UnusableError: if there is no such cell, or it raises an error.
    """
    known = {cell.name: cell for cell in cells}
    if name not in known:
        raise UnusableError("cell", f"expected a name such as {cells[0].name} but got {name!r}")
    row: dict[str, Any] = {}
    config = dict(known[name].config)
    if (folder / PARQUET).exists():
        rows = read_table(folder)
        row = next((row for row in rows if row["cell"] == name), {})
        # a column of numbers and words is one of words
        config |= {axis: value(axis, row[axis]) for axis in study.search if axis in row}
    elif study.search:
        raise UnusableError("cell", f"expected the table of the search in {folder} but got none")
    torch.set_num_threads(row.get("threads") or threads_per_worker(1))
    try:
        metrics = _run_here(study, config, known[name].seed)
    except FloatingPointError as error:
        print(f"{name} diverged: {error}\nrecorded: {row.get('status')}, {row.get('reason')}")
        return DONE if row.get("reason") in {None, str(error)} else SOME_FAILED
    differs = False
    for metric, number in metrics.items():
        column = column_of(metric, row)
        recorded = row.get(column) if column in (metrics_of([row]) if row else []) else None
        differs |= recorded is not None and recorded != number
        print(f"{metric}: {number!r}" + ("" if recorded is None else f", recorded {recorded!r}"))
    if row.get("status") == "complete":
        print("not the same as recorded" if differs else "the same as recorded")
    return SOME_FAILED if differs else DONE
