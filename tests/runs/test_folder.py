"""Which folder a command writes to, and what it leaves alone there."""

import os
from pathlib import Path

import pytest

from virtualdepth.runs import UnusableError, claim_folder, command_of

OWN = ("result.json", "curves.csv", "report.md", "loss.png")


def test_the_folder_of_an_earlier_run_may_be_taken_again(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"command": "verify"}')
    (tmp_path / "report.md").write_text("earlier")
    assert command_of(tmp_path) == "verify"
    assert claim_folder(str(tmp_path), "verify") == tmp_path
    assert (tmp_path / "report.md").read_text() == "earlier"
    assert command_of(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", OWN)
def test_files_of_another_origin_are_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UnusableError, match=rf"^output: .*{name} of another origin"):
        claim_folder(str(tmp_path), "verify", OWN)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("text", ['{"command": "reproduce"}', "[1]", "3", "{}"])
def test_results_of_another_command_are_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UnusableError, match=r"^output: .*result.json of another origin"):
        claim_folder(str(tmp_path), "verify")


def test_folders_of_others_may_be_shared(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert claim_folder(str(tmp_path), "verify") == tmp_path


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_has_to_be_a_folder(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableError, match=r"^output: expected a folder to write to but got"):
        claim_folder(str(tmp_path / output), "verify")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_output_has_to_be_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnusableError, match=r"^output: .*Permission denied"):
        claim_folder(str(tmp_path), "verify")


def test_default_folders_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [claim_folder(None, "verify") for _ in range(4)]
    assert len(set(folders)) == 4
    assert all(folder.parent == Path("runs", "verify") for folder in folders)
