"""The queue of cells: rows of an Optuna study, each of which one worker takes and finishes.

A cell is one row for life: waiting, running, and then complete; PRUNED where it diverged or was
pruned, FAIL where it raised an error. Its user attributes hold

- "cell", "config", "seed": which it is;
- "run": who took it, for the how-manieth time, with which versions;
- "result": status, reason, metrics and seconds.
"""

import os
import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import Cell
from virtualdepth_lab.ablate.config import StudyConfig, plain, value
from virtualdepth_lab.ablate.sampling import distribution_of, distributions, sampler_of, suggest
from virtualdepth_lab.ablate.storage import CellStorage

MOST_ATTEMPTS = 3
PACKAGES = ("virtualdepth", "torch", "optuna")
COMPLETE, DIVERGED, PRUNED, FAILED = "complete", "diverged", "pruned", "failed"
STATES = {
    COMPLETE: TrialState.COMPLETE,
    DIVERGED: TrialState.PRUNED,  # a sampler then keeps away from it
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A cell that this worker, and no other, runs.

    Attributes:
        trial_id: of its row.
        cell: which it is.
        trial: of a search, what Optuna's sampler and pruner work on.
        attempt: for the how-manieth time it is run.
    """

    trial_id: int
    cell: Cell
    trial: Trial | None
    attempt: int


class Queue:
    """The rows of one study.

    Args:
        storage: where they are.
        study: which.
    """

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
            pruner=getattr(optuna.pruners, study.pruner)() if study.search else None,
        )
        self._id = storage.get_study_id_from_name(study.name)

    def latest(self) -> dict[str, FrozenTrial]:
        """List the row of each cell; of one that failed and was added again, the last.

        Returns:
            Name of the cell -> row.
        """
        trials = self.study.get_trials(deepcopy=False)
        return {trial.user_attrs["cell"]: trial for trial in trials if "cell" in trial.user_attrs}

    def add(self, cells: Sequence[Cell]) -> None:
        """Add the cells that the study does not have yet, and those that failed, once more.

        Only under :func:`virtualdepth_lab.ablate.storage.lock`: no other process adds meanwhile.

        Args:
            cells: all of the study.

        Raises:
            UnusableError: if the storage holds another study of this name.
        """
        known = self.latest()
        self._check_same(known, cells)
        self.study.set_user_attr("study", self.config.to_json())
        fixed = {} if self.config.search else distributions(self.config)
        for cell in cells:
            if cell.name in known and known[cell.name].state is not TrialState.FAIL:
                continue
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params={
                        name: plain(cell.seed if name == "seed" else cell.config[name])
                        for name in fixed
                    },
                    distributions=dict(fixed),
                    user_attrs={
                        "cell": cell.name,
                        "config": plain(cell.config),
                        "seed": cell.seed,
                    },
                )
            )

    def _check_same(self, known: Mapping[str, FrozenTrial], cells: Sequence[Cell]) -> None:
        """Let a study grow, but not change."""
        before = self.study.user_attrs.get("study")
        if before is None:
            return
        if self.study.direction.name.lower() != self.config.direction:
            raise self._other("direction", self.study.direction.name.lower())
        now, growing = self.config.to_json(), {"grid", "seeds"}
        if self.config.search:
            growing = {"budget"}
        for key in {*before, *now} - growing:
            if before.get(key) != now.get(key):
                raise self._other(key, before.get(key))
        if missing := known.keys() - {cell.name for cell in cells}:
            raise self._other("the cell", min(missing))
        old, new = before.get("grid", {}), now.get("grid", {})
        if old.keys() != new.keys():
            raise self._other("grid", list(old))
        for axis, entries in old.items():
            categorical = isinstance(
                distribution_of(self.config.grid[axis]), CategoricalDistribution
            )
            if categorical and entries != new[axis]:
                raise self._other(f"grid.{axis}", entries)

    def _other(self, key: str, before: object) -> UnusableError:
        return UnusableError(
            "output",
            f"expected a new folder, or a storage without a study {self.config.name!r}, since the "
            f"one there differs: it has {key} {before}. More seeds, more finite values of an axis "
            "and more trials can be added; for the rest choose another folder or name",
        )

    def claim(self) -> Claim | None:
        """Take a cell that waits.

        Returns:
            The cell; None if none waits now.
        """
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

    def _take(self, trial_id: int) -> Claim | None:
        # the heartbeat first: a running cell without one would never count as abandoned
        try:
            self.storage.record_heartbeat(trial_id)
            if not self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:
            return None
        stored = self.storage.get_trial(trial_id)
        attempt = 1 + stored.user_attrs.get("run", {}).get("attempt", 0)
        run = {"attempt": attempt, "worker": self.worker, "versions": versions()}
        self.storage.set_trial_user_attr(trial_id, "run", run)
        trial = None
        config = {name: value(name, v) for name, v in stored.user_attrs["config"].items()}
        if self.config.search:
            # a sampler for each cell: the workers must not draw the same points
            self.study.sampler = sampler_of(self.config, stored.number)
            trial = Trial(self.study, trial_id)
            for name, given in self.config.search.items():
                config[name] = suggest(trial, name, given)
        cell = Cell(name=stored.user_attrs["cell"], config=config, seed=stored.user_attrs["seed"])
        return Claim(trial_id=trial_id, cell=cell, trial=trial, attempt=attempt)

    def finish(self, claim: Claim, result: Mapping[str, Any], objective: float | None) -> None:
        """Record how a cell ended; unless another worker, who thought this one dead, has.

        Args:
            claim: the cell.
            result: "status", and "reason", "metrics", "seconds".
            objective: of a complete cell.
        """
        values = [objective] if objective is not None else None
        try:
            self.storage.set_trial_user_attr(claim.trial_id, "result", plain(result))
            self.storage.set_trial_state_values(claim.trial_id, STATES[result["status"]], values)
        except UpdateFinishedTrialError:
            return

    def unfinished(self) -> int:
        """Count the cells that wait or run.

        Returns:
            How many.
        """
        counts = self.storage.counts(self._id)
        return counts.get("WAITING", 0) + counts.get("RUNNING", 0)

    def counts(self) -> dict[str, int]:
        """Count rows by state.

        Returns:
            See :meth:`CellStorage.counts`.
        """
        return self.storage.counts(self._id)

    def give_back(self, workers: Sequence[str], *, blameless: bool = False) -> int:
        """Let the running cells of workers that are known to be dead wait again.

        Args:
            workers: as "host:process".
            blameless: the user stopped them, so it does not count as an attempt.

        Returns:
            How many cells.
        """
        given_back = 0
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
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
        # the file is on this machine, whose processes can be asked for; not those of Windows,
        # where os.kill would end them: there a worker counts as dead when its heartbeat stops
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        workers = {trial.user_attrs.get("run", {}).get("worker", "") for trial in running}
        host = f"{socket.gethostname()}:"
        self.give_back(
            [
                worker
                for worker in workers
                if worker.startswith(host) and not _alive(int(worker.removeprefix(host)))
            ]
        )


@cache
def versions() -> dict[str, str]:
    """List what runs a cell.

    Returns:
        Name -> version.
    """
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
