"""A process that takes cells from a study's queue until none is left.

Started by ``virtualdepth ablate``, which says on standard input, in one line of JSON, which study
in which storage; when that end closes, since its process died, the worker dies too.
"""

import json
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import optuna
import torch
from optuna.exceptions import StorageInternalError, TrialPruned
from optuna.trial import Trial

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.config import StudyConfig
from virtualdepth_lab.ablate.lifeline import die_with_parent
from virtualdepth_lab.ablate.matrix import Metrics, Report
from virtualdepth_lab.ablate.multi_device import run
from virtualdepth_lab.ablate.problems import objective_of
from virtualdepth_lab.ablate.queue import (
    COMPLETE,
    DIVERGED,
    FAILED,
    MOST_ATTEMPTS,
    PRUNED,
    Claim,
    Queue,
)
from virtualdepth_lab.ablate.storage import HEARTBEAT, CellStorage, quiet_optuna, storage_errors

STORAGE_LOST = 3
_POLL = 0.5  # seconds between looks for cells that other workers gave up


def main() -> int:
    """Work off a queue.

    Returns:
        0 when no cell waits or runs any more, 3 if the storage cannot be used.
    """
    line = sys.stdin.readline()
    if not line:
        return 0  # the study was refused
    order = json.loads(line)
    die_with_parent()
    torch.set_num_threads(order["threads"])
    study = StudyConfig(**order["study"])
    try:
        with (
            quiet_optuna(),
            storage_errors(order["storage"]),
            closing(CellStorage(order["storage"])) as storage,
        ):
            work(Queue(storage, study))
    except UnusableError as error:
        print(error, file=sys.stderr)
        return STORAGE_LOST
    return 0


def work(queue: Queue) -> None:
    """Run cells until none waits or runs any more.

    Args:
        queue: of the study.
    """
    while True:
        claim = queue.claim()
        if claim is not None:
            with _beating(queue, claim):
                result, objective = outcome(queue.config, claim)
            queue.finish(claim, result, objective)
        elif queue.unfinished():
            time.sleep(_POLL)  # one that runs elsewhere may yet lose its worker
        else:
            return


def outcome(study: StudyConfig, claim: Claim) -> tuple[dict[str, Any], float | None]:
    """Run a cell, whatever happens in it.

    Args:
        study: of which it is.
        claim: the cell.

    Returns:
        Status, reason, metrics and seconds; and the objective of a complete cell.
    """
    if claim.attempt > MOST_ATTEMPTS:
        died = f"its worker died in each of {MOST_ATTEMPTS} attempts; of too little memory?"
        return _result(FAILED, died, {}, 0.0), None
    begin = time.perf_counter()
    report = None
    if claim.trial is not None and study.pruner != "NopPruner":
        report = _report(claim.trial, objective_of(study))
    status: str = COMPLETE
    reason: str | None = None
    metrics: Metrics = {}
    try:
        metrics = run(study, claim.cell.config, claim.cell.seed, report)
    except FloatingPointError as error:
        status, reason = DIVERGED, str(error)
    except TrialPruned as error:
        status, reason = PRUNED, str(error)
    except (Exception, SystemExit) as error:  # what a cell raises is a result of the study
        traceback.print_exc()
        status, reason = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.perf_counter() - begin
    objective = metrics[objective_of(study)] if status == COMPLETE else None
    return _result(status, reason, metrics, seconds), objective


def _result(
    status: str, reason: str | None, metrics: Mapping[str, float], seconds: float
) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "metrics": dict(metrics),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def _report(trial: Trial, objective: str) -> Report:
    def report(step: int, metrics: Metrics) -> None:
        trial.report(metrics[objective], step)
        if trial.should_prune():
            raise TrialPruned(f"{objective} {metrics[objective]:.4g} at step {step}")

    return report


@contextmanager
def _beating(queue: Queue, claim: Claim) -> Iterator[None]:
    """Show signs of life of a running cell."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            try:
                queue.storage.record_heartbeat(claim.trial_id)
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
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sys.exit(main())
