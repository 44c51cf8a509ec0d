"""The queue of cells: rows of an Optuna study, each of which one worker takes and finishes.

A cell keeps one row, a trial of Optuna: WAITING, RUNNING, then COMPLETE, PRUNED (it diverged or
was pruned) or FAIL (it raised an error). The trial's user attributes hold

- "cell", "config", "seed": which cell it is;
- "run": the worker that took it last, its versions, and how many attempts there were;
- "result": status, reason, metrics and seconds.
"""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from virtualdepth.runs import UnusableError, plain, versions
from virtualdepth_lab.ablate.cells import Cell, Status
from virtualdepth_lab.ablate.sampling import (
    distribution_of,
    pruner_of,
    sampler_of,
    suggest,
)
from virtualdepth_lab.ablate.storage import CellStorage
from virtualdepth_lab.ablate.study import StudyConfig, value

STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.DIVERGED: TrialState.PRUNED,  # a sampler then keeps away from it
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class ClaimedCell:
    """A cell that this worker, and no other, runs."""

    trial_id: int  # of its row
    cell: Cell
    trial: Trial | None  # of a search: what Optuna's sampler and pruner work on
    attempt: int  # 1 the first time it is run


class Queue:
    """The rows of one study."""

    def __init__(self, storage: CellStorage, study: StudyConfig) -> None:
        self.storage = storage
        self.config = study
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self.study = optuna.create_study(
            storage=storage,
            study_name=study.name,
            direction=StudyDirection[study.direction.upper()],
            load_if_exists=True,
            sampler=sampler_of(study, 0),
            pruner=pruner_of(study),
        )
        self._id = storage.get_study_id_from_name(study.name)

    def latest(self) -> dict[str, FrozenTrial]:
        """Return the row of each cell by its name; the last one of a cell that was added again."""
        trials = self.study.get_trials(deepcopy=False)
        return {trial.user_attrs["cell"]: trial for trial in trials if "cell" in trial.user_attrs}

    def add(self, cells: Sequence[Cell]) -> None:
        """Add the cells that the study does not have yet, and again those that failed.

        The caller holds :func:`virtualdepth_lab.ablate.storage.lock`: no other process adds cells
        meanwhile.
        """
        known = self.latest()
        self._check_same(known, cells)
        self.study.set_user_attr("study", self.config.to_json())
        varied = {} if self.config.search else {**self.config.grid, "seed": self.config.seeds}
        fixed = {name: distribution_of(given) for name, given in varied.items()}
        for name, distribution in fixed.items():
            self.storage.describe(self._id, name, distribution)
        for cell in cells:
            if cell.name in known and known[cell.name].state is not TrialState.FAIL:
                continue
            config = plain(cell.config)
            arguments = {**config, "seed": cell.seed}
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params={name: arguments[name] for name in fixed},
                    distributions=dict(fixed),
                    user_attrs={"cell": cell.name, "config": config, "seed": cell.seed},
                )
            )

    def _check_same(self, known: Mapping[str, FrozenTrial], cells: Sequence[Cell]) -> None:
        """Let a study grow, but not change."""
        before = self.study.user_attrs.get("study")
        if before is None:
            return
        if self.study.direction.name.lower() != self.config.direction:
            raise self._differs("direction", self.study.direction.name.lower())
        now = self.config.to_json()
        growing = {"modules", *(("budget",) if self.config.search else ("grid", "seeds"))}
        for key in {*before, *now} - growing:
            if before.get(key) != now.get(key):
                raise self._differs(key, before.get(key))
        if missing := known.keys() - {cell.name for cell in cells}:
            raise self._differs("the cell", min(missing))
        if before.get("grid", {}).keys() != now.get("grid", {}).keys():
            raise self._differs("grid", list(before.get("grid", {})))

    def _differs(self, key: str, before: object) -> UnusableError:
        return UnusableError(
            "output",
            f"expected a new folder, or a storage without a study {self.config.name!r}, since the "
            f"one there differs: it has {key} {before}. More seeds, more values of an axis "
            "and more trials can be added; for the rest choose another folder or name",
        )

    def claim(self) -> ClaimedCell | None:
        """Take a cell that waits; None if none waits now."""
        waiting = self.storage.waiting(self._id)
        if not waiting:
            self._give_back_dead()
            waiting = self.storage.waiting(self._id)
        while waiting:
            for trial_id in waiting:
                claimed = self._take(trial_id)
                if claimed is not None:
                    return claimed
            waiting = self.storage.waiting(self._id)
        return None

    def _take(self, trial_id: int) -> ClaimedCell | None:
        # The heartbeat comes first: a running cell without one would never count as abandoned.
        try:
            self.storage.record_heartbeat(trial_id)
            if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:
            return None
        stored = self.storage.get_trial(trial_id)
        attempt = 1 + stored.user_attrs.get("run", {}).get("attempt", 0)
        run = {"attempt": attempt, "worker": self.worker, "versions": cell_versions()}
        self.storage.set_trial_user_attr(trial_id, "run", run)
        trial = None
        config = {name: value(name, v) for name, v in stored.user_attrs["config"].items()}
        if self.config.search:
            self.study.sampler = sampler_of(self.config, stored.number)
            trial = Trial(self.study, trial_id)
            for name, given in self.config.search.items():
                config[name] = suggest(trial, name, given)
        cell = Cell(name=stored.user_attrs["cell"], config=config, seed=stored.user_attrs["seed"])
        return ClaimedCell(trial_id=trial_id, cell=cell, trial=trial, attempt=attempt)

    def finish(
        self, claimed: ClaimedCell, result: Mapping[str, Any], objective: float | None
    ) -> None:
        """Record how a cell ended, unless a worker that took this one for dead has done so."""
        values = [objective] if objective is not None else None
        try:
            self.storage.set_trial_user_attr(claimed.trial_id, "result", plain(result, nan="nan"))
            self.storage.set_trial_state_values(claimed.trial_id, STATES[result["status"]], values)
        except UpdateFinishedTrialError:
            return

    def counts(self) -> dict[str, int]:
        """Count rows by the name of their TrialState."""
        return self.storage.counts(self._id)

    def unfinished(self) -> int:
        """Count the cells that wait or run."""
        counts = self.counts()
        return counts.get("WAITING", 0) + counts.get("RUNNING", 0)

    def give_back(self, workers: Sequence[str], *, blameless: bool = False) -> int:
        """Let the running cells of dead workers, named "host:process", wait again; count them.

        ``blameless``: the user stopped the workers, so it does not count as an attempt.
        """
        given_back = 0
        for trial in self._running():
            run = trial.user_attrs.get("run", {})
            if run.get("worker") in workers:
                if blameless:
                    run = {**run, "attempt": run["attempt"] - 1}
                    self.storage.set_trial_user_attr(trial._trial_id, "run", run)
                given_back += self.storage.give_back(trial._trial_id)
        return given_back

    def _give_back_dead(self) -> None:
        self.storage.give_back_stale(self._id)
        if self.storage.engine.name != "sqlite" or sys.platform == "win32":
            return
        # SQLite's file is on this machine, which knows whether a process lives. Not so on Windows:
        # os.kill would end it, so there a worker counts as dead when its heartbeat stops.
        workers = {trial.user_attrs.get("run", {}).get("worker", "") for trial in self._running()}
        host = f"{socket.gethostname()}:"
        here = [worker for worker in workers if worker.startswith(host)]
        self.give_back([name for name in here if not _is_alive(int(name.removeprefix(host)))])

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


@cache
def cell_versions() -> dict[str, str]:
    """Return the versions of what runs a cell."""
    return versions("virtualdepth", "torch", "optuna")


def _is_alive(process: int) -> bool:
    try:
        with suppress(PermissionError):  # it is another user's
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
