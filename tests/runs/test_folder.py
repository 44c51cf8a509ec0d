"""Which folder a command writes to, for how long it holds it, and what it leaves alone there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest
from tests.platforms import posix

from virtualdepth.runs import UnusableError, claim_folder, command_of, mine, replacing

OWN = ("result.json", "curves.csv", "report.md", "loss.png")


def claimed(output: Path | str | None, command: str = "verify") -> Path:
    """The folder, after a claim in which nothing was made."""
    with claim_folder(output, command, OWN) as folder:
        return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_of_an_earlier_run_may_be_taken_again(tmp_path: Path) -> None:
    with claim_folder(tmp_path, "verify", OWN) as folder, replacing(folder, "report.md") as path:
        path.write_text("earlier")
    before = contents(tmp_path)
    assert claimed(tmp_path) == tmp_path
    assert contents(tmp_path) == before
    assert command_of(tmp_path / "nowhere") is None


def test_a_copy_without_hidden_files_may_be_taken_again(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"command": "verify"}')
    (tmp_path / "report.md").write_text("![Loss.](loss.png) ![Mine.](other.png)")
    (tmp_path / "loss.png").write_bytes(b"ours")
    (tmp_path / "other.png").write_bytes(b"perhaps ours")
    assert command_of(tmp_path) == "verify"
    with claim_folder(tmp_path, "verify", OWN) as folder, replacing(folder, "loss.png") as path:
        path.write_bytes(b"new")
        # shown in the report, but perhaps put there by hand
        with pytest.raises(UnusableError, match=r"another origin .* with other\.png"):
            mine(folder, "other.png")
    assert (tmp_path / "loss.png").read_bytes() == b"new"


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_files_of_another_origin_are_left_alone(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / name).write_text("mine")
    elif kind == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnusableError, match=rf"^output: .*another origin.* with {name}"):
        claimed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_comes_between_two_runs_is_left_alone(tmp_path: Path) -> None:
    with claim_folder(tmp_path, "verify", OWN) as folder:
        mine(folder, "report.md").write_text("ours")
    (tmp_path / "loss.png").write_text("mine")
    with pytest.raises(UnusableError, match=r"another origin .* with loss\.png"):
        claimed(tmp_path)
    (tmp_path / "loss.png").rename(tmp_path / "notes.png")
    with claim_folder(tmp_path, "verify", OWN) as folder:
        (tmp_path / "late.png").write_text("mine")
        with pytest.raises(UnusableError, match=r"another origin .* with late\.png"):
            mine(folder, "late.png")
    assert (tmp_path / "late.png").read_text() == "mine"


@pytest.mark.parametrize("content", [b"my notes\n", b"\xff\xfe", b"{}", b"\n"])
def test_a_file_called_like_the_mark_is_left_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".virtualdepth-run").write_bytes(content)
    (tmp_path / ".virtualdepth").write_bytes(content)
    with pytest.raises(UnusableError, match=r"another origin .* with \.virtualdepth-run"):
        claimed(tmp_path)
    assert contents(tmp_path) == {".virtualdepth-run": content, ".virtualdepth": content}


@posix
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_but_called_like_the_mark_is_refused(kind: str, tmp_path: Path) -> None:
    mark = tmp_path / ".virtualdepth-run"
    if kind == "pipe":
        os.mkfifo(mark)
    elif kind == "link":
        mark.symlink_to(tmp_path / "nowhere")
    else:
        mark.mkdir()
    with pytest.raises(UnusableError, match=r"^output: expected a folder"):
        claimed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [mark.name]


@pytest.mark.parametrize("text", ['{"command": "reproduce"}', "[1]", "3", "{}"])
def test_results_of_another_command_are_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UnusableError, match=r"^output: .*result\.json"):
        claimed(tmp_path)
    assert contents(tmp_path) == {"result.json": text.encode()}


def test_files_of_an_unfinished_run_of_another_command_are_left_alone(tmp_path: Path) -> None:
    with claim_folder(tmp_path, "ablate", OWN) as folder:
        mine(folder, "study.db").write_text("a week")
    before = contents(tmp_path)
    with pytest.raises(UnusableError, match=r"^output: .*where ablate left study\.db"):
        claimed(tmp_path)
    assert contents(tmp_path) == before


def test_folders_of_others_may_be_shared(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".virtualdepth").write_text("mine")
    assert claimed(tmp_path) == tmp_path
    assert contents(tmp_path) == {"notes.txt": b"mine", ".virtualdepth": b"mine"}


def test_what_a_claim_made_goes_if_the_run_made_nothing(tmp_path: Path) -> None:
    with claim_folder(tmp_path / "a" / "b", "verify") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    with claim_folder(tmp_path / "a" / "b", "verify") as folder:
        mine(folder, "report.md").touch()
    assert (tmp_path / "a" / "b" / "report.md").exists()


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_has_to_be_a_folder(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableError, match=r"^output: expected a folder to write to but got"):
        claimed(tmp_path / output)


def test_output_has_to_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableError, match=r"^output: expected a folder but got an empty name"):
        claimed("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_output_has_to_be_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnusableError, match=r"^output: .*Permission denied"):
        claimed(tmp_path)


def test_default_folders_are_claimed_by_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    together = Barrier(8)

    def claims(_: int) -> list[Path]:
        folders = []
        with ExitStack() as stack:
            for _round in range(40):
                together.wait()
                folder = stack.enter_context(claim_folder(None, "verify"))
                mine(folder, "report.md").touch()
                folders.append(folder)
        return folders

    with ThreadPoolExecutor(8) as pool:
        folders = [folder for share in pool.map(claims, range(8)) for folder in share]
    assert len(set(folders)) == 320
    assert all(folder.parent == Path("runs", "verify") for folder in folders)


def test_two_commands_do_not_share_a_folder(tmp_path: Path) -> None:
    with claim_folder(tmp_path, "verify") as folder:
        mine(folder, "report.md").touch()
        before = contents(tmp_path)
        for command in ("verify", "ablate"):
            with pytest.raises(UnusableError, match=r"that no other command is using but got"):
                claimed(tmp_path, command)
        assert contents(tmp_path) == before
    assert claimed(tmp_path) == tmp_path


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Path]:
    """A folder whose command was killed while it wrote result.json and had written report.md."""
    script = (
        "import os, sys\n"
        "from virtualdepth.runs import claim_folder, replacing\n"
        "with claim_folder(sys.argv[1], 'verify') as folder:\n"
        "    with replacing(folder, 'report.md') as path: path.touch()\n"
        "    with replacing(folder, 'result.json') as path: path.touch(); os._exit(9)\n"
    )
    folder = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", script, str(folder)]).returncode == 9
    return folder


def test_the_death_of_a_command_frees_its_folder(killed: Path) -> None:
    assert (killed / ".result.json.virtualdepth-part").exists()
    with claim_folder(killed, "verify") as folder, replacing(folder, "result.json") as path:
        path.write_text("{}")
    assert {path.name for path in killed.iterdir()} == {
        "report.md", "result.json", ".virtualdepth-run"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", "a\nb", "/a"])
def test_names_with_separators_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"^output: expected the name of a file"):
        mine(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_as_before(tmp_path: Path) -> None:
    with replacing(tmp_path, "a.txt") as path:
        path.write_text("whole")

    def fail() -> None:
        with replacing(tmp_path, "a.txt") as path:
            path.write_text("ha")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", ".virtualdepth-run"}


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    mine(tmp_path / "run", "report.md").symlink_to(tmp_path / "notes.md")
    (tmp_path / "notes.md").write_text("mine")
    with replacing(tmp_path / "run", "report.md") as path:
        path.write_text("ours")
    assert (tmp_path / "notes.md").read_text() == "mine"
    assert (tmp_path / "run" / "report.md").read_text() == "ours"


def test_an_interrupt_stays_one_where_the_folder_was_removed(tmp_path: Path) -> None:
    def interrupted() -> None:
        with claim_folder(tmp_path / "run", "verify") as folder:
            shutil.rmtree(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
