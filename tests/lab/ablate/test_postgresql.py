"""A study in a PostgreSQL database that two commands, of a worker each, share."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from tests.lab.ablate.process import (
    ENVIRONMENT,
    OWN,
    kill_worker_of,
    runs,
    start,
    statuses,
    trials_in,
    wait_for,
)
from tests.lab.ablate.server import missing, server

from virtualdepth.cli import main
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.queue import Queue
from virtualdepth_lab.ablate.storage import CellStorage, lock, quiet_optuna
from virtualdepth_lab.ablate.study import StudyConfig

REASON = missing()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as address:
        yield address


def test_two_commands_share_a_study_and_survive_a_kill(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])  # for the workers of main()
    Path("own.yaml").write_text(OWN)
    log = tmp_path / "log"
    words = ["own.yaml", "--storage", url, "--settings.log", str(log)]
    words += ["--grid.x", ",".join(map(str, range(24)))]
    # no cell ends before the two workers have one each, and another has that of the killed one
    words += ["--settings.crowd", "3"]

    def kill() -> None:
        wait_for(lambda: sum(runs(log).values()) == 2)
        kill_worker_of("x=0,seed=0", url)

    # both find an empty database: the tables are made, and the cells added, once
    with start(*words, "--output", "first") as first, ThreadPoolExecutor(1) as other:
        try:
            killed = other.submit(kill)
            assert main(["ablate", *words, "--output", "second"]) == 0
            killed.result()
            errors = first.communicate()[1] + capfd.readouterr().err
        finally:
            first.kill()
    assert first.returncode == 0, errors
    assert errors.count("was killed by SIGKILL") == 1
    assert statuses("first") == statuses("second") == {"complete": 24}
    recorded = trials_in(url)
    assert Counter(trial.user_attrs["cell"] for trial in recorded) == Counter(
        f"x={x},seed=0" for x in range(24)
    )
    assert {trial.state for trial in recorded} == {optuna.trial.TrialState.COMPLETE}
    assert sum(runs(log).values()) == 25
    assert len({trial.user_attrs["run"]["worker"] for trial in recorded}) > 1


def test_four_workers_at_once_take_each_cell_once(url: str) -> None:
    study = StudyConfig(
        name="race", problem="tests.lab.ablate.own:factory", grid={"x": list(range(40))}
    )

    def take(_: int) -> list[str]:
        taken = []
        with contextlib.ExitStack() as stack:
            with lock(url, study.name):  # of the four, the first makes the tables and the cells
                storage = stack.enter_context(contextlib.closing(CellStorage(url)))
                queue = Queue(storage, study)
                queue.add(cells_of(study))
            while (found := queue.claim()) is not None:
                taken.append(found.cell.name)
        return taken

    with quiet_optuna(), ThreadPoolExecutor(4) as workers:
        shares = list(workers.map(take, range(4)))
    assert Counter(name for share in shares for name in share) == Counter(
        cell.name for cell in cells_of(study)
    )


def test_another_study_of_the_same_name_is_refused(url: str) -> None:
    studies = [
        StudyConfig(name="same", problem="tests.lab.ablate.own:factory", grid={"x": x})
        for x in ([1, 2], [1, 3])
    ]
    with quiet_optuna(), contextlib.closing(CellStorage(url)) as storage:
        Queue(storage, studies[0]).add(cells_of(studies[0]))
        other = Queue(storage, studies[1])
        with pytest.raises(UnusableError, match="expected a new folder, or a storage without"):
            other.add(cells_of(studies[1]))
