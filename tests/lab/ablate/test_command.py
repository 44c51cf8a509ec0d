"""The command as its user meets it: processes, tables, reports, and what is kept when it stops."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from tests.lab.ablate.process import (
    ENVIRONMENT,
    MODULE,
    OWN,
    kill_worker_of,
    runs,
    start,
    statuses,
    table,
    trials,
    wait_for,
)
from tests.platforms import posix

from virtualdepth.cli import main
from virtualdepth.runs import claim_folder, mine, replacing
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.queue import Queue
from virtualdepth_lab.ablate.storage import CellStorage, quiet_optuna
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.study_file import read_study, write_study


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])  # for the workers of main()
    (tmp_path / "own.yaml").write_text(OWN)


@pytest.mark.slow
def test_from_study_file_to_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    words = ["own.yaml", "--settings.ends", "diverged", "--seeds", "0,1", "--output", "run"]
    words += ["--settings.log", str(log), "--settings.broken", "3"]
    assert main(["ablate", *words, "--workers", "2"]) == 1
    out, err = capfd.readouterr()
    assert err.count("\n") <= 1  # no terminal, no bar
    assert out.splitlines() == [
        "6 cells: 2 complete, 2 diverged, 2 failed",
        "Best cell: `x=1,seed=0` with loss 2.",
        "Best configuration over its seeds: x 1 with loss 2.5 (2.25 to 2.75).",
        "",
        "files in run",
    ]
    assert table("run")[4]["reason"] == "RuntimeError: not yet"
    logs = [path.read_text() for path in (tmp_path / "run").glob("worker-*.log")]
    assert "".join(logs).count("RuntimeError: not yet") == 2
    _failed_cells_again(words, log)
    rows = table("run")
    assert [row["cell"] for row in rows] == [
        f"x={x},seed={seed}" for x in (1, 2, 3) for seed in (0, 1)
    ]
    row = rows[-1]
    assert (row["x"], row["seed"], row["loss"], row["seed_again"]) == (3, 1, 11.0, 1)
    assert (row["status"], row["reason"], row["attempts"]) == ("complete", None, 1)
    assert row["problem"] == "tests.lab.ablate.own:factory"
    assert row["seconds"] >= 0
    assert row["version_torch"].startswith("2.")
    assert (rows[2]["status"], rows[2]["reason"], rows[2]["loss"]) == (
        "diverged", "the loss is inf at evaluation 7", None
    )  # fmt: skip
    text = (tmp_path / "run" / "report.md").read_text()
    assert "- `x=2,seed=1`: diverged: the loss is inf at evaluation 7" in text
    assert "virtualdepth ablate run --cell=x=1,seed=0" in text
    assert json.loads((tmp_path / "run" / "result.json").read_text())["command"] == "ablate"
    _same_report_again(tmp_path / "run")
    _same_cell_again(capfd)


def _failed_cells_again(words: list[str], log: Path) -> None:
    Path(f"{log}.fixed").touch()
    assert main(["ablate", *words]) == 0
    assert statuses("run") == {"complete": 4, "diverged": 2}
    assert runs(log) == {f"{x} {seed}": 1 + (x == 3) for x in (1, 2, 3) for seed in (0, 1)}


def _same_report_again(folder: Path) -> None:
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"loss-by-x.png", "seed_again-by-x.png"} <= set(made)
    for name in made:
        if name.endswith(".png") or name == "report.md":
            (folder / name).unlink()
    assert main(["report", "run"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def _same_cell_again(capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert main(["ablate", "run", "--cell", "x=3,seed=1"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "loss: 11.0, recorded 11.0",
        "seed_again: 1, recorded 1",
        "the same as recorded",
    ]
    assert main(["ablate", "run", "--cell", "x=2,seed=1"]) == 0
    assert "diverged: the loss is inf" in capfd.readouterr().out


def test_dry_run_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["own.yaml", "--seeds", "0,1", "--settings.seconds", "0.5", "--workers", "2"]
    assert main(["ablate", *words, "--dry-run"]) == 0
    found = re.fullmatch(
        r"6 cells; x=2,seed=1 took ([\d.]+) s\. If all are like it, 2 workers will take about "
        r"([\d.]+) s\. Nothing was kept\.\nseeds: each setting runs with 2 seeds, 0, 1\.\n",
        capfd.readouterr().out,
    )
    assert found is not None
    cell, study = map(float, found.groups())
    assert cell >= 0.5
    assert study == pytest.approx(3 * cell, abs=0.2)  # each is rounded to a tenth
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


def test_dry_run_counts_no_more_workers_than_cells(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "own.yaml", "--workers", "100", "--dry-run"]) == 0
    assert "; x=2,seed=0 took " in (out := capfd.readouterr().out)
    assert "3 workers will take about " in out


def test_dry_run_counts_one_cell_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "own.yaml", "--grid.x", "1", "--dry-run"]) == 0
    assert capfd.readouterr().out.startswith("1 cell; x=1,seed=0 took")


@pytest.mark.parametrize("seeds", ["3", "[3]"])
def test_dry_run_tells_a_seed_from_a_number_of_seeds(
    seeds: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["own.yaml", "--grid.x", "1", "--seeds", seeds]
    assert main(["ablate", *words, "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("1 cell; x=1,seed=3 took")
    assert "seeds: 3 and seeds: [3] are the same; for several seeds list them" in out


def test_dry_run_tells_an_error_of_the_problem(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ablate", "own.yaml", "--settings.ends", "error", "--dry-run"])
    lines = capfd.readouterr().err.splitlines()
    assert end.value.code == 2
    assert "own.py" in "".join(lines[:-1])  # where it arose
    assert lines[-1].endswith(
        "error: problem: expected a cell that runs but got RuntimeError: no such luck"
    )


@posix
@pytest.mark.slow
def test_killed_workers_lose_no_cell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log, held = tmp_path / "log", (4, 12, 20)
    words = ["own.yaml", "--grid.x", ",".join(map(str, range(24))), "--output", "run"]
    words += ["--settings.log", str(log), "--settings.hold", "4,12,20"]
    words += ["--settings.ends", "killed"]  # with x = 2, always

    def kill() -> None:
        for x in held:
            wait_for(lambda x=x: f"{x} 0" in runs(log))
            kill_worker_of(f"x={x},seed=0", "sqlite:///run/study.db")

    with ThreadPoolExecutor(1) as other:
        killed = other.submit(kill)
        assert main(["ablate", *words, "--workers", "2"]) == 1
        killed.result()
    out, err = capfd.readouterr()
    assert err.count("was killed by SIGKILL; ") == 6
    assert out.endswith("files in run\n")
    assert statuses("run") == {"complete": 23, "failed": 1}
    assert table("run")[2]["reason"].startswith("its worker died in each of 3 attempts")
    assert Counter(trial.user_attrs["cell"] for trial in trials("run")) == Counter(
        f"x={x},seed=0" for x in range(24)
    )
    assert runs(log) == {f"{x} 0": 1 + (x in held) + 2 * (x == 2) for x in range(24)}
    again = {row["x"]: row["attempts"] - 1 for row in table("run") if row["attempts"] > 1}
    assert again == {2: 3, **dict.fromkeys(held, 1)}


@posix
@pytest.mark.slow
def test_killing_everything_loses_the_running_cells_at_most(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["own.yaml", "--grid.x", "1,2,3,4,5,6", "--settings.hold", "3,4"]
    words += ["--settings.log", str(log), "--output", "run"]
    with start(*words, "--workers", "2") as process:
        wait_for(lambda: {"3 0", "4 0"} <= set(runs(log)))
        process.kill()
        process.communicate()
    _take_every_cell_left(read_study(tmp_path / "own.yaml", words[1:7]))
    assert main(["ablate", *words]) == 0
    assert statuses("run") == {"complete": 6}
    assert len(trials("run")) == 6
    assert runs(log) == {f"{x} 0": 1 + (x in (3, 4)) for x in range(1, 7)}


def _take_every_cell_left(study: StudyConfig) -> None:
    """The dead workers' cells too, though their heartbeats would count for an hour."""
    taken: list[str] = []
    with quiet_optuna(), closing(CellStorage("sqlite:///run/study.db", grace=3600)) as storage:
        queue = Queue(storage, study)

        def take() -> bool:
            taken.extend(claimed.cell.name for claimed in iter(queue.claim, None))
            return len(taken) == queue.unfinished()

        wait_for(take)
        assert sorted(taken) == [f"x={x},seed=0" for x in (3, 4, 5, 6)]
        queue.give_back([queue.worker], blameless=True)


@posix
@pytest.mark.slow
def test_interrupt_keeps_what_is_finished_and_a_rerun_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["own.yaml", "--grid.x", "1,2,3,4,5,6", "--settings.hold", "3"]
    words += ["--settings.log", str(log), "--output", "run"]
    with start(*words) as process:
        try:
            wait_for(lambda: "3 0" in runs(log))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            process.kill()
    assert (process.returncode, err.count("Traceback")) == (130, 0), err
    assert out.splitlines()[0] == "6 cells: 2 complete, 4 unfinished"
    assert out.splitlines()[-1] == "interrupted; files in run"
    assert statuses("run") == {"complete": 2, "unfinished": 4}
    assert main(["ablate", *words]) == 0
    assert statuses("run") == {"complete": 6}
    assert runs(log) == {f"{x} 0": 1 + (x == 3) for x in range(1, 7)}
    assert {row["attempts"] for row in table("run")} == {1}


def unusable(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["ablate", "own.yaml", "--output", "run", *words])
    err = capfd.readouterr().err
    assert end.value.code == 2
    assert err.count("\n") == 1
    return err.removeprefix("virtualdepth ablate: error: ")


@pytest.mark.parametrize("what", ["garbage", "folder", "no server", "no driver"])
def test_unreadable_storage_is_one_line(
    what: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = f"sqlite:///{tmp_path}/own.db"
    reason = "unable to open database file"
    if what == "garbage":
        (tmp_path / "own.db").write_bytes(b"this was a database once" * 1000)
        reason = "file is not a database"
    elif what == "folder":
        (tmp_path / "own.db").mkdir()
    elif what == "no server":
        pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
        storage, reason = "postgresql://me:secret@127.0.0.1:1/studies", "Connection refused"
    else:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        storage = "postgresql://me:secret@127.0.0.1:1/studies"
        reason = "import of psycopg halted; None in sys.modules (pip install 'virtualdepth[studi"
    error = unusable(["--storage", storage], capfd)
    assert error.startswith("storage: expected to read and write ")
    assert reason in error
    assert "secret" not in error


def test_a_study_that_is_refused_leaves_the_one_that_is_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = read_study(tmp_path / "own.yaml")
    with claim_folder("run", "ablate") as folder:
        write_study(study, folder)
        mine(folder, "worker-1.log").write_text("why a cell failed")
        url = f"sqlite:///{tmp_path}/{mine(folder, 'study.db')}"
        with quiet_optuna(), closing(CellStorage(url)) as storage:
            Queue(storage, study).add(cells_of(study))
    assert "it has the cell x=1,seed=0" in unusable(["--grid.x", "5,6"], capfd)
    assert read_study(tmp_path / "run") == study
    assert (tmp_path / "run" / "worker-1.log").read_text() == "why a cell failed"


def test_a_table_without_its_database_is_not_overwritten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with claim_folder("run", "ablate") as folder, replacing(folder, "results.parquet") as path:
        path.write_bytes(b"the work of a week")
    error = unusable([], capfd)
    assert error.startswith("storage: expected the database of the table in run but study.db is no")
    assert (tmp_path / "run" / "results.parquet").read_bytes() == b"the work of a week"


@posix
@pytest.mark.slow
def test_full_disk_is_one_line_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    words = ["own.yaml", "--grid.x", ",".join(map(str, range(60))), "--output", "run"]
    study = read_study(tmp_path / "own.yaml", words[1:3])
    url = f"sqlite:///{tmp_path}/run/study.db"
    with claim_folder("run", "ablate") as folder:
        mine(folder, "study.db")
        with quiet_optuna(), closing(CellStorage(url)) as storage:
            Queue(storage, study).add(cells_of(study))
    # room for the cells, not for all their results; a limit on files is inherited by the workers
    room = (tmp_path / "run" / "study.db").stat().st_size // 1024 + 12
    limited = ["bash", "-c", f'ulimit -f {room}; exec "$@"', "bash", *MODULE, *words]
    end = subprocess.run(limited, capture_output=True, text=True, env=ENVIRONMENT)
    assert end.returncode == 2, end.stderr
    last = end.stderr.splitlines()[-1]
    assert last.startswith("virtualdepth ablate: error: storage: expected to read and write ")
    assert "disk" in last
    assert "every cell recorded by then is kept" in last
    kept = [t for t in trials("run") if t.state is optuna.trial.TrialState.COMPLETE]
    assert 0 < len(kept) < 60
    assert main(["ablate", *words]) == 0
    assert statuses("run") == {"complete": 60}
    before = {trial.number: trial.datetime_complete for trial in kept}
    after = {trial.number: trial.datetime_complete for trial in trials("run")}
    assert all(after[number] == when for number, when in before.items())
