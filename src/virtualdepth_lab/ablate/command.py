"""What ``virtualdepth ablate`` does, from its arguments to its exit status."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy.engine import URL
from tqdm import tqdm

from virtualdepth.runs import FAILED, INTERRUPTED, PASSED, UnusableError, claim_folder
from virtualdepth_lab.ablate.cells import Cell, Status, cells_of
from virtualdepth_lab.ablate.problems import check_cells, objective_of
from virtualdepth_lab.ablate.queue import Queue
from virtualdepth_lab.ablate.report import write_report, write_result
from virtualdepth_lab.ablate.sampling import check_search
from virtualdepth_lab.ablate.single_cell import estimate, run_again
from virtualdepth_lab.ablate.storage import (
    CellStorage,
    check_url,
    lock,
    quiet_optuna,
    storage_errors,
)
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.study_file import read_study, write_study
from virtualdepth_lab.ablate.table import PARQUET, Row, rows_of, write_table
from virtualdepth_lab.ablate.workers import Workers

DATABASE = "study.db"
_REFRESH = 1.0  # seconds between two looks at the storage, for the bar


def ablate(options: Namespace) -> int:
    """Run a study, or what is left of it; leave its table and report; return the exit status."""
    study = read_study(Path(options.study), options.more)
    cells = cells_of(study)
    if study.search:
        check_search(study)
    check_cells(study, cells)
    own = options.study if Path(options.study).is_dir() else f"runs/ablate/{study.name}"
    output = options.output or own
    workers = min(options.workers, len(cells))
    if options.dry_run:
        return estimate(study, cells, workers)
    if options.cell is not None:
        return run_again(study, cells, options.cell, Path(output))
    storage = check_url(options.storage) if options.storage else None
    folder = claim_folder(output, "ablate")
    if storage is None:
        _check_database(folder)
    url = storage or URL.create("sqlite", database=str(folder / DATABASE)).render_as_string()
    with quiet_optuna(), storage_errors(url):
        rows, interrupted = _run(study, cells, url, workers, folder)
    try:
        write_table(rows, folder)
        write_result(study, objective_of(study), folder)
        found = write_report(folder)
    except OSError as error:
        raise UnusableError(
            "output",
            f"expected to write the table to {folder} but got: {error.strerror}; every cell is "
            "kept in the storage: solve this and run the same command again",
        ) from error
    print(f"{found}\n\n{'interrupted; ' * interrupted}files in {folder}")
    if interrupted:
        return INTERRUPTED
    bad = {Status.FAILED, Status.UNFINISHED} & {row["status"] for row in rows}
    return FAILED if bad else PASSED


def _check_database(folder: Path) -> None:
    """Refuse to start again where an earlier table would be lost."""
    if (folder / PARQUET).exists() and not (folder / DATABASE).exists():
        raise UnusableError(
            "storage",
            f"expected the database of the table in {folder} but {DATABASE} is not there: name the "
            "one it came from with --storage, or choose another folder to start again",
        )


def _run(
    study: StudyConfig, cells: list[Cell], url: str, number: int, folder: Path
) -> tuple[list[Row], bool]:
    """Run the cells that are left; return the rows of all, and whether Ctrl-C ended it."""
    devices, interrupted = study.trainer.get("devices", 1), False
    with Workers(number, folder, devices) as workers, _filled_queue(url, study, cells) as queue:
        # Not before: a study that is refused leaves the file of the one that is there.
        write_study(study, folder)
        try:
            workers.start(url, study.to_json())
            _follow(queue, workers, len(cells))
        except KeyboardInterrupt:
            interrupted = True
            workers.kill()
            queue.give_back(workers.names, blameless=True)
        return rows_of(study, cells, queue.latest()), interrupted


@contextmanager
def _filled_queue(url: str, study: StudyConfig, cells: Sequence[Cell]) -> Iterator[Queue]:
    """Open the queue of a study, with all cells in it, for the block."""
    with ExitStack() as stack:
        with lock(url, study.name):
            queue = Queue(stack.enter_context(closing(CellStorage(url))), study)
            queue.add(cells)
        yield queue


def _follow(queue: Queue, workers: Workers, total: int) -> None:
    """Show a bar over the cells until the workers have finished."""
    failed_before = queue.counts().get("FAIL", 0)
    next_look, finished = 0.0, 0
    with tqdm(total=total, initial=total - queue.unfinished(), unit="cell", disable=None) as bar:

        def look() -> int:
            nonlocal next_look, finished
            if time.monotonic() >= next_look:
                counts = queue.counts()
                running = counts.get("RUNNING", 0)
                finished = total - running - counts.get("WAITING", 0)
                bar.set_postfix(running=running, failed=counts.get("FAIL", 0) - failed_before)
                bar.update(finished - bar.n)
                next_look = time.monotonic() + _REFRESH
            return finished

        def died(worker: str, how: str) -> None:
            cell = "its cell waits again" if queue.give_back([worker]) else "it had no cell"
            bar.write(f"{how}; {cell}", file=sys.stderr)

        workers.watch(look, died)
        next_look = 0.0
        look()
