"""Readers that leave, full disks, the backend of a notebook: what is around a command."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.cli.process import MODULE, SMALL, call
from tests.platforms import posix


@posix
def test_a_reader_that_leaves_stops_nothing(tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    (tmp_path / "run" / "report.md").unlink()
    line = f"{' '.join(MODULE)} report run | head -1; echo $PIPESTATUS"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    first, status = end.stdout.splitlines()
    assert first.split()[:2] == ["learning", "rate"]
    assert (status, end.stderr) == ("0", "")
    assert (tmp_path / "run" / "report.md").exists()


@posix
@pytest.mark.parametrize("words", ["--help", "verify --help"])
def test_help_for_a_reader_that_leaves(words: str) -> None:
    line = f"{' '.join(MODULE)} {words} | true; echo $PIPESTATUS"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (end.stdout, end.stderr) == ("0\n", "")


@pytest.mark.parametrize("backend", ["module://no_such_package.backend", "nonsense", ""])
def test_the_backend_of_a_notebook_does_not_matter(backend: str, tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    (tmp_path / "run" / "loss.png").unlink()
    end = subprocess.run(
        [*MODULE, "report", "run"],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert end.returncode == 0, end.stderr
    assert (tmp_path / "run" / "loss.png").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SMALL, "--output", "run") == 0
    with open("/dev/full", "w") as full:
        end = subprocess.run(
            [*MODULE, "report", "run"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert end.returncode == 2
    assert re.fullmatch(
        r"virtualdepth report: error: expected files .* No space left on device\n", end.stderr
    )


@posix
def test_a_file_that_cannot_grow_is_told_in_one_line(tmp_path: Path) -> None:
    assert call(*SMALL, "--output", "run") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    line = f"ulimit -f 8; exec {' '.join(MODULE)} report run"
    end = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert end.returncode == 2
    assert re.fullmatch(
        r"virtualdepth report: error: expected files .* File too large\n", end.stderr
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
