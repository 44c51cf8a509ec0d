"""The command in a process of its own, and what can be seen of it from outside."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from pyarrow import parquet

from virtualdepth_lab.ablate.storage import CellStorage, quiet_optuna

ROOT = Path(__file__).parents[3]
MODULE = [sys.executable, "-m", "virtualdepth", "ablate"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
OWN = """
problem: tests.lab.ablate.own:factory
objective: loss
grid: {x: [1, 2, 3]}
"""


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MODULE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def table(folder: Path | str) -> list[dict[str, Any]]:
    """The rows of the Parquet file; those of the CSV file are the same cells and columns."""
    rows: list[dict[str, Any]] = parquet.read_table(Path(folder) / "results.parquet").to_pylist()
    with (Path(folder) / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["cell"] for line in lines] == [row["cell"] for row in rows]
    assert list(lines[0]) == list(rows[0])
    return rows


def statuses(folder: Path | str) -> dict[str, int]:
    return dict(Counter(row["status"] for row in table(folder)))


def trials_in(url: str) -> list[optuna.trial.FrozenTrial]:
    with quiet_optuna(), closing(CellStorage(url)) as storage:
        return optuna.load_study(study_name="own", storage=storage).get_trials()


def trials(folder: Path | str) -> list[optuna.trial.FrozenTrial]:
    return trials_in(f"sqlite:///{folder}/study.db")


def kill_worker_of(cell: str, url: str) -> None:
    """Kill the worker that is running a cell of tests.lab.ablate.own, such as "x=3,seed=0"."""
    with quiet_optuna(), closing(CellStorage(url)) as storage:
        study = optuna.load_study(study_name="own", storage=storage)
        running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        (owner,) = [t.user_attrs["run"]["worker"] for t in running if t.user_attrs["cell"] == cell]
        os.kill(int(owner.rpartition(":")[2]), signal.SIGKILL)


def runs(log: Path) -> Counter[str]:
    """How often each cell of tests.lab.ablate.own has begun."""
    return Counter(log.read_text().split("\n")[:-1]) if log.exists() else Counter()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
