"""The folder of a study: whose files are in it, and that nothing finished is lost from it."""

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.lab.ablate.process import ENVIRONMENT, OWN
from tests.lab.ablate.test_command import unusable
from tests.platforms import posix

from virtualdepth.cli import main
from virtualdepth.runs import claim_folder, mine
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.queue import Queue
from virtualdepth_lab.ablate.storage import CellStorage, quiet_optuna
from virtualdepth_lab.ablate.study import StudyConfig
from virtualdepth_lab.ablate.study_file import read_study
from virtualdepth_lab.ablate.table import rows_of, write_table
from virtualdepth_lab.ablate.worker import work
from virtualdepth_lab.ablate.workers import Workers


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])  # for the workers of main()
    (tmp_path / "own.yaml").write_text(OWN)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def finished(folder: Path, study: StudyConfig) -> None:
    """Leave what a run of a study leaves, without workers."""
    url = f"sqlite:///{mine(folder, 'study.db').resolve()}"
    with quiet_optuna(), closing(CellStorage(url)) as storage:
        queue = Queue(storage, study)
        queue.add(cells_of(study))
        work(queue)
        write_table(rows_of(study, cells_of(study), queue.latest()), folder)


@pytest.mark.parametrize("what", ["empty file", "no cells", "other cells", "another storage"])
def test_a_table_that_the_storage_lacks_is_not_overwritten(
    what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = read_study(tmp_path / "own.yaml")
    with claim_folder("run", "ablate") as folder:
        finished(folder, study)
    (tmp_path / "run" / "study.db").unlink()
    url, words = f"sqlite:///{tmp_path}/run/study.db", []
    if what == "empty file":
        (tmp_path / "run" / "study.db").touch()
    elif what == "another storage":
        url = f"sqlite:///{tmp_path}/other.db"
        words = ["--storage", url]
    if what == "no cells":
        with quiet_optuna(), closing(CellStorage(url)):
            pass
    elif what in {"other cells", "another storage"}:
        with quiet_optuna(), closing(CellStorage(url)) as storage:
            Queue(storage, study).add(cells_of(study)[:1])
    before = (tmp_path / "run" / "results.parquet").read_bytes()
    error = unusable(words, capfd)
    assert error.startswith("storage: expected the ")
    assert "of the table in run but" in error
    assert (tmp_path / "run" / "results.parquet").read_bytes() == before


FOREIGN = (
    "study.yaml", "study.db", "study.db.virtualdepth-lock", "results.csv", "results.parquet",
    "result.json", "report.md", "worker-1.log",
)  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_another_origin_are_left_alone(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    error = unusable([], capfd)
    assert error.startswith("output: expected a folder where no file of another origin would be ov")
    assert name in error
    assert contents(tmp_path / "run") == {name: b"mine"}


def test_a_study_file_in_the_output_folder_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("study.yaml").write_text(OWN + "# a comment\n")
    with pytest.raises(SystemExit) as end:
        main(["ablate", "study.yaml", "--output", "."])
    assert end.value.code == 2
    assert "study.yaml" in capfd.readouterr().err
    assert Path("study.yaml").read_text() == OWN + "# a comment\n"
    assert {path.name for path in tmp_path.iterdir()} == {"own.yaml", "study.yaml"}


def test_a_folder_in_use_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with claim_folder("run", "ablate") as folder:
        mine(folder, "worker-1.log").write_text("of the other")
        assert "expected a folder that no other command is using" in unusable([], capfd)
        assert (folder / "worker-1.log").read_text() == "of the other"


@pytest.mark.parametrize("name", ["..", ".", "../up", "a/b", "a\\b", "/abs"])
def test_a_name_that_leads_elsewhere_is_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error = unusable([f"--name={name}"], capfd)
    assert error.startswith("name: expected ")
    assert {path.name for path in tmp_path.iterdir()} == {"own.yaml"}


def test_a_study_finds_its_module_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "beside_the_study.py").write_text(
        "from tests.lab.ablate.own import factory\n"
    )
    (tmp_path / "there" / "own.yaml").write_text(
        OWN.replace("tests.lab.ablate.own", "beside_the_study")
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["ablate", "../there/own.yaml", "--output", "run"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["ablate", "../here/run", "--cell", "x=1,seed=0"]) == 0
    assert capfd.readouterr().out.endswith("the same as recorded\n")


def test_nothing_stays_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    with claim_folder("run", "ablate") as folder, Workers(1, folder) as workers:
        scratch = Path(workers.scratch)
        assert scratch.parent == tmp_path / "tmp"
        (scratch / "of a cell").mkdir()
        (scratch / "of a cell" / "large").write_text("left by a worker that was killed")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "run").exists()


@posix
def test_a_worker_takes_its_scratch_along_when_the_command_dies(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "of a cell").mkdir(parents=True)
    script = (
        "import sys, time\n"
        "from virtualdepth_lab.ablate.lifeline import die_with_parent\n"
        "die_with_parent(sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "scratch")],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=300) == -signal.SIGKILL
    assert not (tmp_path / "scratch").exists()
