"""What ``virtualdepth ablate`` does, from its arguments to its exit status."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy.engine import URL
from tqdm import tqdm

from virtualdepth.runs import (
    FAILED,
    INTERRUPTED,
    PASSED,
    UnusableError,
    claim_folder,
    mine,
    raise_on_interrupt,
)
from virtualdepth_lab.ablate.address import check_url
from virtualdepth_lab.ablate.cells import Cell, Status, cells_of
from virtualdepth_lab.ablate.problems import check_cells, objective_of
from virtualdepth_lab.ablate.queue import Queue
from virtualdepth_lab.ablate.report import OWN, write_report, write_result
from virtualdepth_lab.ablate.sampling import check_search
from virtualdepth_lab.ablate.single_cell import estimate, run_again
from virtualdepth_lab.ablate.storage import (
    LOCK,
    CellStorage,
    lock,
    quiet_optuna,
    storage_errors,
)
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.study_file import STUDY, read_study, write_study
from virtualdepth_lab.ablate.table import PARQUET, Row, read_table, rows_of, write_table
from virtualdepth_lab.ablate.workers import Workers, log_name

DATABASE = "study.db"
DATABASE_FILES = tuple(f"{DATABASE}{end}" for end in ("", "-wal", "-shm", LOCK))
FINISHED = {Status.COMPLETE, Status.DIVERGED, Status.PRUNED}
_REFRESH = 1.0  # seconds between two looks at the storage, for the bar


def ablate(options: Namespace) -> int:
    """Run a study, or what is left of it; leave its table and report; return the exit status."""
    study = read_study(Path(options.study), options.more)
    cells = cells_of(study)
    if study.search:
        check_search(study)
    check_cells(study, cells)
    is_folder = Path(options.study).is_dir()
    default = options.study if is_folder else f"runs/ablate/{study.name}"
    output = default if options.output is None else options.output
    workers = min(options.workers, len(cells))
    raise_on_interrupt()  # what a cell leaves in the temporary folder is to go
    if options.dry_run:
        return estimate(study, cells, workers)
    if options.cell is not None:
        return run_again(study, cells, options.cell, Path(output))
    storage = None if options.storage is None else check_url(options.storage)
    own = (*OWN, STUDY, *map(log_name, range(workers)), *(() if storage else DATABASE_FILES))
    with claim_folder(output, "ablate", own) as folder:
        if storage is None:
            _check_database(folder)
            for name in DATABASE_FILES:
                mine(folder, name)
        url = storage or URL.create("sqlite", database=str(folder / DATABASE)).render_as_string()
        with quiet_optuna(), storage_errors(url):
            rows, interrupted = _run(study, cells, url, workers, folder)
        found = _leave(study, rows, folder)
    print(f"{found}\n\n{'interrupted; ' * interrupted}files in {folder}")
    if interrupted:
        return INTERRUPTED
    bad = {Status.FAILED, Status.UNFINISHED} & {row["status"] for row in rows}
    return FAILED if bad else PASSED


def _leave(study: StudyConfig, rows: list[Row], folder: Path) -> str:
    """Write table, result.json and report; return lines to print."""
    try:
        write_table(rows, folder)
        write_result(study, objective_of(study), folder)
        return write_report(folder)
    except OSError as error:
        raise UnusableError(
            "output",
            f"expected to write the table to {folder} but got: {error.strerror}; every cell is "
            "kept in the storage: solve this and run the same command again",
        ) from error


def _check_database(folder: Path) -> None:
    """Refuse to start again where an earlier table would be lost."""
    database = folder / DATABASE
    if (folder / PARQUET).exists() and not (database.exists() and database.stat().st_size):
        what = "is empty" if database.exists() else "is not there"
        raise UnusableError(
            "storage",
            f"expected the database of the table in {folder} but {DATABASE} {what}: name the "
            "one it came from with --storage, or choose another folder to start again",
        )


def _check_table(folder: Path, storage: CellStorage, study: str) -> None:
    """Refuse a storage without cells that the table in the folder has as finished."""
    if not (folder / PARQUET).exists():
        return
    rows = [row for row in read_table(folder) if row["status"] in FINISHED]
    lost = sorted({str(row["cell"]) for row in rows} - storage.finished_cells(study))
    if lost:
        raise UnusableError(
            "storage",
            f"expected the storage of the table in {folder} but got one without {len(lost)} of its "
            f"finished cells, such as {lost[0]}: name the one it came from with --storage, or "
            "choose another folder",
        )


def _run(
    study: StudyConfig, cells: list[Cell], url: str, number: int, folder: Path
) -> tuple[list[Row], bool]:
    """Run the cells that are left; return the rows of all, and whether Ctrl-C ended it."""
    devices = study.trainer.get("devices", 1)
    # The queue first: a study that is refused leaves file and logs of the one that is there.
    with _filled_queue(url, study, cells, folder) as queue:
        write_study(study, folder)
        with Workers(number, folder, devices) as workers:
            interrupted = _work(queue, workers, url, len(cells))
        return rows_of(study, cells, queue.latest()), interrupted


def _work(queue: Queue, workers: Workers, url: str, total: int) -> bool:
    """Let the workers run every cell that waits; return whether Ctrl-C ended it."""
    try:
        workers.start(url, queue.config.to_json())
        _follow(queue, workers, total)
    except KeyboardInterrupt:
        workers.kill()
        queue.give_back(workers.names, blameless=True)
        return True
    return False


@contextmanager
def _filled_queue(
    url: str, study: StudyConfig, cells: Sequence[Cell], folder: Path
) -> Iterator[Queue]:
    """Open the queue of a study, with all cells in it, for the block."""
    with ExitStack() as stack:
        with lock(url, study.name):
            storage = stack.enter_context(closing(CellStorage(url)))
            _check_table(folder, storage, study.name)
            queue = Queue(storage, study)
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
