"""A process that takes cells from a study's queue until none is left.

`virtualdepth ablate` starts it and writes one line of JSON to its standard input: which study, in
which storage. When that pipe closes, since the command died, the worker dies too.
"""

import json
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from optuna.exceptions import StorageInternalError, TrialPruned
from optuna.trial import Trial

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate import multi_device
from virtualdepth_lab.ablate.cells import Status, reason_of
from virtualdepth_lab.ablate.lifeline import die_with_parent
from virtualdepth_lab.ablate.matrix import Metrics, Report
from virtualdepth_lab.ablate.problems import objective_of
from virtualdepth_lab.ablate.queue import ClaimedCell, Queue
from virtualdepth_lab.ablate.storage import HEARTBEAT, CellStorage, quiet_optuna, storage_errors
from virtualdepth_lab.ablate.study import StudyConfig

STORAGE_LOST = 3  # exit status: the storage cannot be used
MOST_ATTEMPTS = 3
_POLL = 0.5  # seconds between looks for cells that other workers gave up


def main() -> int:
    """Work through a queue; return the exit status: 0 when no cell waits or runs any more."""
    line = sys.stdin.readline()
    if not line:
        return 0  # the study was refused
    task = json.loads(line)
    die_with_parent(task["scratch"])
    multi_device.scratch = task["scratch"]
    torch.set_num_threads(task["threads"])
    study = StudyConfig(**task["study"])
    try:
        with (
            quiet_optuna(),
            storage_errors(task["storage"]),
            closing(CellStorage(task["storage"])) as storage,
        ):
            work(Queue(storage, study))
    except UnusableError as error:
        print(error, file=sys.stderr)
        return STORAGE_LOST
    return 0


def work(queue: Queue) -> None:
    """Run cells until none waits or runs any more."""
    while True:
        claimed = queue.claim()
        if claimed is not None:
            with _heartbeat(queue, claimed):
                result, objective = run_claimed(queue.config, claimed)
            queue.finish(claimed, result, objective)
        elif queue.unfinished():
            time.sleep(_POLL)  # a cell that runs elsewhere may yet lose its worker
        else:
            return


def run_claimed(study: StudyConfig, claimed: ClaimedCell) -> tuple[dict[str, Any], float | None]:
    """Run a cell, whatever happens in it; return its result, and the objective if complete."""
    if claimed.attempt > MOST_ATTEMPTS:
        died = f"its worker died in each of {MOST_ATTEMPTS} attempts; perhaps the memory ran out"
        return _result(Status.FAILED, died, {}, 0.0), None
    begin = time.perf_counter()
    report = None
    if claimed.trial is not None and study.pruner != "NopPruner":
        report = _pruning_report(claimed.trial, objective_of(study))
    status = Status.COMPLETE
    reason: str | None = None
    metrics: Metrics = {}
    try:
        metrics = multi_device.run(study, claimed.cell.config, claimed.cell.seed, report)
    except FloatingPointError as error:
        status, reason = Status.DIVERGED, str(error)
    except TrialPruned as error:
        status, reason = Status.PRUNED, str(error)
    except (Exception, SystemExit) as error:  # what a cell raises is a result of the study
        traceback.print_exc()
        status, reason = Status.FAILED, reason_of(error)
    seconds = time.perf_counter() - begin
    objective = metrics[objective_of(study)] if status is Status.COMPLETE else None
    return _result(status, reason, metrics, seconds), objective


def _result(
    status: Status, reason: str | None, metrics: Mapping[str, float], seconds: float
) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "metrics": dict(metrics),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def _pruning_report(trial: Trial, objective: str) -> Report:
    """Return a report that ends the cell if Optuna's pruner says so."""

    def report(step: int, metrics: Metrics) -> None:
        trial.report(metrics[objective], step)
        if trial.should_prune():
            raise TrialPruned(f"{objective} {metrics[objective]:.4g} at step {step}")

    return report


@contextmanager
def _heartbeat(queue: Queue, claimed: ClaimedCell) -> Iterator[None]:
    """Record a sign of life of the cell, again and again, in the block."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            try:
                queue.storage.record_heartbeat(claimed.trial_id)
            except StorageInternalError:
                continue  # whether the storage can be used shows when the cell is recorded

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
