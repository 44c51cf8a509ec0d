"""The queue: no cell is taken twice, none is lost, and a study grows but does not change."""

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from virtualdepth.runs import UnusableError, plain
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.queue import ClaimedCell, Queue
from virtualdepth_lab.ablate.storage import CellStorage, lock, quiet_optuna
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.worker import run_claimed, work

OWN = "tests.lab.ablate.own:factory"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study {0} 100%.db'}"


def grid(**more: Any) -> StudyConfig:
    given = {"name": "own", "problem": OWN, "objective": "loss", "grid": {"x": [1, 2, 3]}, **more}
    return StudyConfig(**given)


def queue_of(url: str, study: StudyConfig, *, grace: int = 60) -> Queue:
    queue = Queue(CellStorage(url, heartbeat=1, grace=grace), study)
    with lock(url, study.name):
        queue.add(cells_of(study))
    return queue


def claim(queue: Queue) -> ClaimedCell:
    found = queue.claim()
    assert found is not None
    return found


DONE = {"status": "complete", "reason": None, "metrics": {"loss": 1.0}, "seconds": 0.1}


def test_four_workers_at_once_take_each_cell_once(url: str) -> None:
    study = grid(grid={"x": list(range(16))})
    queue_of(url, study)
    ready = Barrier(4, timeout=300)

    def take(_: int) -> list[str]:
        queue, taken = Queue(CellStorage(url), study), []
        for _round in range(4):
            ready.wait()  # all four reach for a cell together, every time
            taken.append(claim(queue).cell.name)
        return taken

    with ThreadPoolExecutor(4) as workers:
        shares = list(workers.map(take, range(4)))
    assert Counter(name for share in shares for name in share) == Counter(
        cell.name for cell in cells_of(study)
    )


def test_cells_arrive_as_they_were_sent(url: str) -> None:
    study = grid(
        grid={"x": [1, 2.5, "inf", "word", True, None]}, settings={"seconds": 0}, seeds=[3]
    )
    queue = queue_of(url, study)
    arrived = [claim(queue) for _ in range(6)]
    assert [(c.cell.name, c.cell.config, c.cell.seed) for c in arrived] == [
        (cell.name, cell.config, cell.seed) for cell in cells_of(study)
    ]
    assert [type(c.cell.config["x"]) for c in arrived] == [int, float, float, str, bool, type(None)]
    assert queue.claim() is None


def test_a_dead_worker_of_this_machine_is_noticed_at_once(url: str) -> None:
    queue = queue_of(url, grid(), grace=3600)
    queue.worker = f"{socket.gethostname()}:{2**22 + 1}"  # beyond any process number of Linux
    lost = claim(queue)
    other = Queue(CellStorage(url), grid())
    taken = [claim(other) for _ in range(3)]
    assert {c.cell.name for c in taken} == {"x=1,seed=0", "x=2,seed=0", "x=3,seed=0"}
    assert {c.cell.name: c.attempt for c in taken}[lost.cell.name] == 2


def test_no_process_of_windows_is_asked_whether_it_lives(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There os.kill(process, 0) would end it."""
    running, other = queue_of(url, grid(grid={"x": [1]})), Queue(CellStorage(url), grid())
    lost = claim(running)
    asked = []
    monkeypatch.setattr(os, "kill", lambda process, number: asked.append((process, number)))
    assert other.claim() is None
    assert asked == [(os.getpid(), 0)]
    monkeypatch.setattr(sys, "platform", "win32")
    assert other.claim() is None
    assert len(asked) == 1
    assert other.give_back([running.worker]) == 1  # whoever started it knows that it died
    assert claim(other).trial_id == lost.trial_id


def test_a_worker_elsewhere_counts_as_dead_after_the_grace_period(url: str) -> None:
    study = grid(grid={"x": [1]})
    queue = queue_of(url, study)
    queue.worker = "elsewhere:1"
    lost = claim(queue)
    patient, other = (
        Queue(CellStorage(url, heartbeat=1, grace=grace), grid(grid={"x": [1]}))
        for grace in (3600, 1)
    )
    found = None
    while found is None:
        assert patient.claim() is None  # it may be alive
        found = other.claim()
        time.sleep(0.1)
    assert found.trial_id == lost.trial_id


def test_a_worker_killed_before_its_first_heartbeat_is_noticed(url: str) -> None:
    queue = queue_of(url, grid(grid={"x": [1]}), grace=1)
    (trial,) = queue.study.get_trials(deepcopy=False)
    queue.storage.record_heartbeat(trial._trial_id)
    assert queue.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    found = None
    while found is None:
        found = queue.claim()
        time.sleep(0.1)
    assert found.attempt == 1


@pytest.mark.parametrize("hours", [2, 10_000])
def test_no_clock_takes_the_cell_of_a_live_worker(
    hours: int, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of(url, grid(grid={"x": [1]}))
    queue.worker = "elsewhere:1"
    lost = claim(queue)
    other = Queue(CellStorage(url), grid(grid={"x": [1]}))
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("virtualdepth_lab.ablate.storage.time", clock)

    def set_heartbeat(beat: int) -> None:
        with queue.storage.engine.begin() as connection:
            connection.exec_driver_sql(
                f"UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:{beat // 60:02}:"
                f"{beat % 60:02}' WHERE trial_id = {lost.trial_id}"
            )

    for beat in range(30):  # a live worker: the database's clock is wrong by years, or jumps back
        set_heartbeat((beat * 7) % 30)
        now[0] += 5
        assert other.claim() is None
    now[0] += 3600 * hours  # this process, or its machine, slept: nobody could have sent anything
    assert other.claim() is None
    for _ in range(11):  # a dead one
        now[0] += 5
        assert other.claim() is None
    now[0] += 5
    assert claim(other).trial_id == lost.trial_id


def test_a_worker_thought_dead_may_still_record_its_cell(url: str) -> None:
    queue = queue_of(url, grid(grid={"x": [1]}))
    slow = claim(queue)
    assert queue.storage.give_back(slow.trial_id)
    fast = claim(queue)
    queue.finish(slow, DONE, 1.0)
    queue.finish(fast, {**DONE, "metrics": {"loss": 5.0}}, 5.0)  # too late, and not an error
    (trial,) = queue.study.get_trials()
    assert (trial.state, trial.value, trial.user_attrs["result"]) == (
        TrialState.COMPLETE, 1.0, DONE
    )  # fmt: skip
    assert not queue.storage.give_back(slow.trial_id)
    assert queue.claim() is None


def test_a_cell_that_kills_its_workers_fails_with_the_reason(url: str) -> None:
    queue = queue_of(url, grid(grid={"x": [1]}))
    for attempt in (1, 2, 3):
        lost = claim(queue)
        assert lost.attempt == attempt
        assert queue.give_back([queue.worker]) == 1
    work(queue)
    (trial,) = queue.study.get_trials()
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["result"]["reason"] == (
        "its worker died in each of 3 attempts; perhaps the memory ran out"
    )


def test_interrupting_is_not_held_against_a_cell(url: str) -> None:
    queue = queue_of(url, grid(grid={"x": [1]}))
    for _ in range(5):
        assert claim(queue).attempt == 1
        queue.give_back([queue.worker], blameless=True)


@pytest.mark.parametrize(
    ("ends", "status", "reason", "state"),
    [
        ("well", "complete", None, TrialState.COMPLETE),
        ("diverged", "diverged", "the loss is inf at evaluation 7", TrialState.PRUNED),
        ("undefined", "diverged", "loss is nan at the end", TrialState.PRUNED),
        ("error", "failed", "RuntimeError: no such luck", TrialState.FAIL),
        ("exit", "failed", "SystemExit: 3", TrialState.FAIL),
    ],
)
def test_how_cells_end(
    ends: str, status: str, reason: str | None, state: TrialState, url: str
) -> None:
    queue = queue_of(url, grid(settings={"ends": ends}))
    work(queue)
    trials = queue.latest()
    assert {name: trial.state for name, trial in trials.items()} == {
        "x=1,seed=0": TrialState.COMPLETE,
        "x=2,seed=0": state,
        "x=3,seed=0": TrialState.COMPLETE,
    }
    result = trials["x=2,seed=0"].user_attrs["result"]
    assert (result["status"], result["reason"]) == (status, reason)
    assert trials["x=3,seed=0"].user_attrs["result"]["metrics"] == {
        "loss": 10.0, "seed_again": 0
    }  # fmt: skip
    run = trials["x=2,seed=0"].user_attrs["run"]
    assert run["worker"] == f"{socket.gethostname()}:{os.getpid()}"
    assert {"python", "torch", "optuna", "virtualdepth"} == set(run["versions"])


def test_an_objective_that_is_not_there_is_told(url: str) -> None:
    queue = queue_of(url, grid(objective="accuracy", grid={"x": [1]}))
    work(queue)
    (trial,) = queue.study.get_trials()
    assert (
        "objective: expected one of loss, seed_again metrics but got accuracy"
        in (trial.user_attrs["result"]["reason"])
    )


def test_a_rerun_adds_what_is_missing_and_what_failed_and_nothing_else(
    url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    study = grid(settings={"broken": 2, "log": str(log)})
    queue = queue_of(url, study)
    work(queue)
    assert queue.latest()["x=2,seed=0"].state is TrialState.FAIL
    Path(f"{log}.fixed").touch()
    grown = grid(settings=study.settings, grid={"x": [1, 2, 3, 9]}, seeds=[0, 5])
    for _ in range(2):
        queue = queue_of(url, grown)
        work(queue)
    assert {trial.state for trial in queue.latest().values()} == {TrialState.COMPLETE}
    runs = Counter(log.read_text().split("\n")[:-1])
    assert runs == {"1 0": 1, "2 0": 2, "3 0": 1, "9 0": 1, "1 5": 1, "2 5": 1, "3 5": 1, "9 5": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"grid": {"x": [1, 2]}},  # a cell less
        {"grid": {"y": [1, 2, 3]}},
        {"grid": {"x": [1, 2, 3], "y": [1]}},
        {"settings": {"seconds": 0.1}},
        {"seeds": [1]},
        {"budget": {"steps": 7}},
        {"objective": "accuracy"},
        {"direction": "maximize"},
        {"grid": {}, "search": {"x": [1, 2, 3]}, "budget": {"trials": 3}},
    ],
)
def test_another_study_of_the_same_name_is_refused(other: dict[str, Any], url: str) -> None:
    queue_of(url, grid())
    with pytest.raises(UnusableError, match="output: expected a new folder, or a storage without"):
        queue_of(url, grid(**other))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2], [1, 1.5, 2]),
        ([1, 2], [0, 1, 2, 7]),
        ([1, 2], [1, 2, "inf"]),
        ([1, "inf"], [1, 2, "inf"]),
        ([1.5, 2], ["word", 1.5, True, 2, None]),
        (["a", "b"], ["b", "c", "a"]),
        ([True, "a"], ["a", 3, True]),
    ],
)
def test_an_axis_grows_by_any_value(before: list[Any], after: list[Any], url: str) -> None:
    old = queue_of(url, grid(grid={"x": before}))
    work(old) if before == [1, 2] else None
    done = {name for name, trial in old.latest().items() if trial.state.is_finished()}
    for _ in range(2):
        queue = queue_of(url, grid(grid={"x": after}, seeds=[0, 5]))
    trials = queue.latest()
    cells = cells_of(grid(grid={"x": after}, seeds=[0, 5]))
    assert set(trials) == {cell.name for cell in cells}
    assert {name for name, trial in trials.items() if trial.state.is_finished()} == done
    for cell in cells:
        assert trials[cell.name].params == plain({**cell.config, "seed": cell.seed})
    assert len(queue.study.get_trials()) == len(cells)


def test_cells_that_look_alike_are_refused() -> None:
    for x in ([True, "True"], [None, "None"]):
        with pytest.raises(UnusableError, match="expected values that look different but got 2"):
            cells_of(grid(grid={"x": x}))
    with pytest.raises(UnusableError, match=r"grid: .* but got 2 cells named 'x=1,y=1,y=1,seed=0'"):
        cells_of(grid(grid={"x": ["1", "1,y=1"], "y": ["1,y=1", 1]}))


def search(**more: Any) -> StudyConfig:
    given: dict[str, Any] = {
        "search": {
            "x": {"low": 0.1, "high": 10, "log": True},
            "width": [1, 2, "inf"],
        },
        "budget": {"trials": 6, "steps": 5},
        "grid": {},
        **more,
    }
    return grid(**given)


def test_search_takes_the_trials_asked_for_within_the_space(url: str) -> None:
    queue = queue_of(url, search())
    work(queue)
    trials = queue.study.get_trials()
    assert len(trials) == 6
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert all(0.1 <= trial.params["x"] <= 10 for trial in trials)
    assert {trial.params["width"] for trial in trials} <= {1, 2, "inf"}
    assert len({trial.params["x"] for trial in trials}) == 6
    for trial in trials:
        assert trial.value == pytest.approx(trial.params["x"] ** 2 + 0.2)
    work(queue_of(url, search(budget={"trials": 7, "steps": 5})))
    assert len(queue.study.get_trials()) == 7


def test_search_repeats_itself_with_the_same_seed(tmp_path: Path) -> None:
    points = []
    for name in ("a.db", "b.db"):
        queue = queue_of(f"sqlite:///{tmp_path / name}", search())
        work(queue)
        points.append([trial.params for trial in queue.study.get_trials()])
    assert points[0] == points[1]


def test_a_cell_taken_over_keeps_what_the_sampler_chose(url: str) -> None:
    queue = queue_of(url, search())
    first = claim(queue)
    queue.storage.give_back(first.trial_id)
    again = claim(Queue(CellStorage(url), search()))
    while again.trial_id != first.trial_id:
        again = claim(queue)
    assert again.cell == first.cell


def test_pruning(url: str) -> None:
    queue = queue_of(url, search(pruner="MedianPruner", budget={"trials": 12, "steps": 5}))
    while (found := queue.claim()) is not None:
        result, objective = run_claimed(queue.config, found)
        queue.finish(found, result, objective)
    trials = queue.study.get_trials()
    pruned = [t for t in trials if t.state is TrialState.PRUNED]
    done = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len(pruned) + len(done) == 12
    assert pruned
    assert done
    for trial in pruned:
        assert trial.user_attrs["result"]["status"] == "pruned"
        assert trial.user_attrs["result"]["reason"].startswith("loss ")
        assert len(trial.intermediate_values) < 5
