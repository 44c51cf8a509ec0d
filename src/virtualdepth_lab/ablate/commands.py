"""What ``virtualdepth ablate`` does, from its arguments to its exit status."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL
from tqdm import tqdm

from virtualdepth.runs import INTERRUPTED, UnusableError, claim_folder
from virtualdepth_lab.ablate.cells import Cell, cells_of
from virtualdepth_lab.ablate.config import StudyConfig
from virtualdepth_lab.ablate.problems import check_cells, objective_of
from virtualdepth_lab.ablate.queue import FAILED, Queue
from virtualdepth_lab.ablate.report import write_report, write_result
from virtualdepth_lab.ablate.sampling import check_search
from virtualdepth_lab.ablate.single_cell import DONE, SOME_FAILED, estimate, run_again
from virtualdepth_lab.ablate.storage import (
    CellStorage,
    check_url,
    lock,
    quiet_optuna,
    storage_errors,
)
from virtualdepth_lab.ablate.study_file import read_study, write_study
from virtualdepth_lab.ablate.table import PARQUET, UNFINISHED, rows_of, write_table
from virtualdepth_lab.ablate.workers import Crew

DATABASE = "study.db"
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
    with quiet_optuna(), storage_errors(url), ExitStack() as stack:
        queue, interrupted = _run(study, cells, url, workers, folder, stack)
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


def _check_database(folder: Path) -> None:
    """Refuse to start again where an earlier table would be lost."""
    if (folder / PARQUET).exists() and not (folder / DATABASE).exists():
        raise UnusableError(
            "storage",
            f"expected the database of the table in {folder} but {DATABASE} is not there: name the "
            "one it came from with --storage, or choose another folder to start again",
        )


def _run(
    study: StudyConfig,
    cells: Sequence[Cell],
    url: str,
    workers: int,
    folder: Path,
    stack: ExitStack,
) -> tuple[Queue, bool]:
    """Run the cells that are left; whether it was interrupted."""
    crew, queue = Crew(workers, folder, study.trainer.get("devices", 1)), None
    try:
        with crew:
            with lock(url, study.name):
                queue = Queue(stack.enter_context(closing(CellStorage(url))), study)
                queue.add(cells)
            write_study(study, folder)  # not before: one that is refused leaves the other's
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
