"""One cell in this process: ``--dry-run`` times it, and ``--cell`` runs it again."""

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from virtualdepth.runs import FAILED, PASSED, UnusableError, one_line, torch_threads
from virtualdepth_lab.ablate.cells import Cell, Status, reason_of
from virtualdepth_lab.ablate.matrix import Metrics
from virtualdepth_lab.ablate.multi_device import run
from virtualdepth_lab.ablate.problems import example_point
from virtualdepth_lab.ablate.study import StudyConfig, value
from virtualdepth_lab.ablate.table import (
    PARQUET,
    Row,
    argument_column,
    metric_column,
    metrics_of,
    read_table,
)
from virtualdepth_lab.ablate.workers import threads_per_worker

_SHORT = 60.0  # seconds of a cell


def estimate(study: StudyConfig, cells: Sequence[Cell], workers: int) -> int:
    """Time the cell in the middle of the list, print how long all take, and return the status."""
    cell = cells[len(cells) // 2]
    with torch_threads(threads_per_worker(workers)):
        seconds, end = _timed(study, cell)
        if seconds < _SHORT:  # most of it may be what is loaded at the first step
            seconds, end = _timed(study, cell)
    print(
        f"{len(cells)} cell{'s' * (len(cells) > 1)}; {cell.name} took {seconds:.1f} s{end}. "
        f"If all are like it, {workers} worker{'s' * (workers > 1)} will take about "
        f"{_duration(seconds * math.ceil(len(cells) / workers))}. Nothing was kept.\n"
        f"{seeds_in_words(study.seeds)}"
    )
    return PASSED


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Say which seeds each setting runs with: a number alone could be taken for how many.

    >>> print(seeds_in_words([0, 1, 2]))
    seeds: each setting runs with 3 seeds, 0, 1, 2.
    >>> print(seeds_in_words([3]))
    seeds: each setting runs with 1 seed, 3. seeds: 3 and seeds: [3] are the same; for several \
seeds list them, as in seeds: [0, 1, 2].
    """
    several = len(seeds) > 1
    said = f"seeds: each setting runs with {len(seeds)} seed{'s' * several}, "
    said += f"{', '.join(map(str, seeds))}."
    if not several:
        said += (
            f" seeds: {seeds[0]} and seeds: [{seeds[0]}] are the same; for several seeds list "
            "them, as in seeds: [0, 1, 2]."
        )
    return said


def _timed(study: StudyConfig, cell: Cell) -> tuple[float, str]:
    begin, end = time.perf_counter(), ""
    try:
        _run_here(study, {**example_point(study), **cell.config}, cell.seed)
    except FloatingPointError as error:
        end = f" and diverged ({error})"
    return time.perf_counter() - begin, end


def _run_here(study: StudyConfig, config: Mapping[str, Any], seed: int) -> Metrics:
    """Run one cell; of an error of its own, print where it arose and say what it was."""
    try:
        return run(study, config, seed)
    except (FloatingPointError, UnusableError):
        raise
    except Exception as error:
        traceback.print_exc()
        raise UnusableError(
            "problem", f"expected a cell that runs but got {reason_of(error)}"
        ) from error


def _duration(seconds: float) -> str:
    """Write seconds below two minutes, minutes below two hours, else hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def run_again(study: StudyConfig, cells: Sequence[Cell], name: str, folder: Path) -> int:
    """Run one cell, print it beside the table, and return whether it ended as recorded."""
    known = {cell.name: cell for cell in cells}
    if name not in known:
        raise UnusableError("cell", f"expected a name such as {cells[0].name} but got {name!r}")
    row: Row = {}
    config = dict(known[name].config)
    if (folder / PARQUET).exists():
        row = next((row for row in read_table(folder) if row["cell"] == name), {})
        # A column of numbers and words is one of words.
        config |= {
            axis: value(axis, row[argument_column(axis)])
            for axis in study.search
            if argument_column(axis) in row
        }
    elif study.search:
        raise UnusableError("cell", f"expected the table of the search in {folder} but got none")
    try:
        with torch_threads(row.get("threads") or threads_per_worker(1)):
            metrics = _run_here(study, config, known[name].seed)
    except FloatingPointError as error:
        print(f"{name} diverged: {error}\nrecorded: {row.get('status')}, {row.get('reason')}")
        return PASSED if row.get("reason") in {None, str(error)} else FAILED
    return _compare(metrics, row)


def _compare(metrics: Metrics, row: Row) -> int:
    differs = False
    columns = metrics_of([row]) if row else []
    for metric, number in metrics.items():
        column = metric_column(metric, row)
        recorded = row[column] if column in columns else None
        differs |= recorded is not None and recorded != number
        beside = "" if recorded is None else f", recorded {recorded!r}"
        print(f"{one_line(metric)}: {number!r}{beside}")
    if row.get("status") == Status.COMPLETE:
        print("not the same as recorded" if differs else "the same as recorded")
    return FAILED if differs else PASSED
