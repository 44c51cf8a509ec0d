"""What ``virtualdepth ablate`` does, from its arguments to its exit status."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.engine import URL
from tqdm import tqdm

from virtualdepth.experiments.artifacts import claim_folder
from virtualdepth.experiments.errors import UnusableError
from virtualdepth.studies.cells import Cell, cells_of
from virtualdepth.studies.config import StudyConfig
from virtualdepth.studies.crew import Crew, threads_per_worker
from virtualdepth.studies.problems import check_cells, lowest, objective_of, run_cell
from virtualdepth.studies.queue import FAILED, Queue
from virtualdepth.studies.reading import read_study, write_study
from virtualdepth.studies.report import write_report, write_result
from virtualdepth.studies.sampling import check_search
from virtualdepth.studies.storage import (
    CellStorage,
    check_url,
    lock,
    quiet_optuna,
    storage_errors,
)
from virtualdepth.studies.table import UNFINISHED, metrics_of, read_table, rows_of, write_table

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130
DATABASE = "study.db"
_SHORT = 60.0  # seconds of a cell
_REFRESH = 1.0  # seconds between two looks at the storage, for the bar


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """The arguments of the command besides those of the study.

    Attributes:
        study: file, or folder of an earlier run.
        overrides: words that override keys of the study.
        output: folder for the files; default that of the earlier run, or runs/ablate/NAME.
        storage: where the cells are kept; default a file of SQLite in the output folder.
        workers: processes on this machine.
        dry_run: run one cell, to tell how long all take.
        cell: run only the cell of this name again.
    """

    study: str
    overrides: Sequence[str] = ()
    output: str | None = None
    storage: str | None = None
    workers: int = 1
    dry_run: bool = False
    cell: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UnusableError("workers", f"expected an integer >= 1 but got {self.workers}")


def ablate(options: AblateOptions) -> int:
    """Run a study, or what is left of it, and leave its table and report.

    Args:
        options: what, where and how.

    Returns:
        0 if every cell is complete or diverged, 1 if one failed, 130 after Ctrl-C, with what was
        finished by then kept.

    Raises:
        UnusableError: if study, folder or storage cannot be used.
    """
    study = read_study(Path(options.study), options.overrides)
    cells = cells_of(study)
    if study.search:
        check_search(study)
    check_cells(study, cells)
    own = options.study if Path(options.study).is_dir() else f"runs/ablate/{study.name}"
    output = options.output or own
    if options.dry_run:
        return _estimate(study, cells, options.workers)
    if options.cell is not None:
        return _again(study, cells, options.cell, Path(output))
    storage = check_url(options.storage) if options.storage else None
    folder = claim_folder(output, "ablate")
    write_study(study, folder)
    url = storage or URL.create("sqlite", database=str(folder / DATABASE)).render_as_string()
    with quiet_optuna(), storage_errors(url), ExitStack() as stack:
        queue, interrupted = _run(study, cells, url, options.workers, folder, stack)
        rows = rows_of(study, cells, queue.latest())
    try:
        write_table(rows, folder)
        write_result(study, objective_of(study), folder)
        found = write_report(folder)
    except OSError as error:
        raise UnusableError(
            "output",
            f"expected to write the table to {folder} but got: {error.strerror}; every cell is "
            f"kept in the storage: put this right and run the same command again",
        ) from error
    print(f"{found}\n\n{'interrupted; ' * interrupted}files in {folder}")
    if interrupted:
        return INTERRUPTED
    return SOME_FAILED if {FAILED, UNFINISHED} & {row["status"] for row in rows} else DONE


def _run(
    study: StudyConfig,
    cells: Sequence[Cell],
    url: str,
    workers: int,
    folder: Path,
    stack: ExitStack,
) -> tuple[Queue, bool]:
    """Run the cells that are left; whether it was interrupted."""
    crew, queue = Crew(workers, folder), None
    try:
        with crew:
            with lock(url, study.name):
                queue = Queue(stack.enter_context(closing(CellStorage(url))), study)
                queue.add(cells)
            crew.start(url, study.to_json())
            _follow(queue, crew, len(cells))
    except KeyboardInterrupt:
        if queue is None:
            raise
        queue.give_back(crew.names, blameless=True)
        return queue, True
    return queue, False


def _follow(queue: Queue, crew: Crew, total: int) -> None:
    """Show one bar over the cells until the workers have finished."""
    before = queue.counts().get("FAIL", 0)
    next_look, finished = 0.0, 0

    with tqdm(total=total, initial=total - queue.unfinished(), unit="cell", disable=None) as bar:

        def look() -> int:
            nonlocal next_look, finished
            if time.monotonic() >= next_look:
                counts = queue.counts()
                running = counts.get("RUNNING", 0)
                finished = total - running - counts.get("WAITING", 0)
                bar.set_postfix(running=running, failed=counts.get("FAIL", 0) - before)
                bar.update(finished - bar.n)
                next_look = time.monotonic() + _REFRESH
            return finished

        def died(worker: str) -> None:
            given_back = queue.give_back([worker])
            bar.write(
                f"{crew.deaths[-1]}; {'its cell waits again' if given_back else 'it had no cell'}",
                file=sys.stderr,
            )

        crew.watch(look, died)
        next_look = 0.0
        look()


def _estimate(study: StudyConfig, cells: Sequence[Cell], workers: int) -> int:
    """Time the cell in the middle of the list."""
    cell = cells[len(cells) // 2]
    torch.set_num_threads(threads_per_worker(workers))
    seconds, end = _timed(study, cell)
    if seconds < _SHORT:  # most of which may be what is loaded at the first step
        seconds, end = _timed(study, cell)
    print(
        f"{len(cells)} cells; {cell.name} took {seconds:.1f} s{end}. If all are like it, "
        f"{workers} worker{'s' * (workers > 1)} will take about "
        f"{_duration(seconds * len(cells) / workers)}. Nothing was kept."
    )
    return DONE


def _timed(study: StudyConfig, cell: Cell) -> tuple[float, str]:
    begin, end = time.perf_counter(), ""
    try:
        run_cell(study, {**lowest(study), **cell.config}, cell.seed)
    except FloatingPointError as error:
        end = f" and diverged ({error})"
    return time.perf_counter() - begin, end


def _duration(seconds: float) -> str:
    """Write a time: seconds below two minutes, minutes below two hours, else hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _again(study: StudyConfig, cells: Sequence[Cell], name: str, folder: Path) -> int:
    """Run one cell in this process and set it beside the table."""
    known = {cell.name: cell for cell in cells}
    if name not in known:
        raise UnusableError("cell", f"expected a name such as {cells[0].name} but got {name!r}")
    row: dict[str, Any] = {}
    config = dict(known[name].config)
    if (folder / "results.parquet").exists():
        rows = read_table(folder)
        row = next((row for row in rows if row["cell"] == name), {})
        config |= {axis: row[axis] for axis in study.search if axis in row}
    elif study.search:
        raise UnusableError("cell", f"expected the table of the search in {folder} but got none")
    torch.set_num_threads(row.get("threads") or threads_per_worker(1))
    try:
        metrics = run_cell(study, config, known[name].seed)
    except FloatingPointError as error:
        print(f"{name} diverged: {error}\nrecorded: {row.get('status')}, {row.get('reason')}")
        return DONE if row.get("reason") in {None, str(error)} else SOME_FAILED
    differs = False
    for metric, number in metrics.items():
        column = f"metric_{metric}" if f"metric_{metric}" in row else metric
        recorded = row.get(column) if column in (metrics_of([row]) if row else []) else None
        differs |= recorded is not None and recorded != number
        print(f"{metric}: {number!r}" + ("" if recorded is None else f", recorded {recorded!r}"))
    if row.get("status") == "complete":
        print("not the same as recorded" if differs else "the same as recorded")
    return SOME_FAILED if differs else DONE
