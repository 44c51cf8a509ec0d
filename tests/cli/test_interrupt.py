"""Ctrl-C, which needs a real signal to a real process, at any moment: one line, status 130."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.process import FILES, MODULE, SMALL
from tests.platforms import posix


@contextmanager
def started(*arguments: str, stderr: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*MODULE, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal of 80 columns: the one to read from, the one to write to."""
    import fcntl
    import termios

    ends = os.openpty()
    fcntl.ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield ends
    for end in ends:
        os.close(end)


def read_until(text: str, end: int) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(end, 4096).decode()
    return shown


@posix
@pytest.mark.slow
def test_interrupt_keeps_what_is_finished(terminal: tuple[int, int], tmp_path: Path) -> None:
    # the second learning rate would take a million steps
    arguments = ["verify", "--data", "synthetic", "--time", "1", "--lrs", "0.1,0.000001"]
    with started(*arguments, "--output", "run", stderr=terminal[1]) as process:
        shown = read_until("learning rate 1e-06", terminal[0])
        assert "learning rate 0.1" in shown
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "interrupted; files in run"
    assert "interrupted: 1 of 2 learning rates were finished" in out
    # one gap makes no slope
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES - {"gap.png"}
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [row["lr"] for row in found["rows"]] == [0.1]
    assert (found["order"], found["passed"]) == (None, None)
    assert (tmp_path / "run" / "report.md").read_text().startswith("# virtualdepth verify: inter")


@posix
def test_interrupt_before_training(tmp_path: Path) -> None:
    os.mkfifo("pipe.csv")
    arguments = ["verify", "--data", "pipe.csv", "--targets", "y", "--output", "run"]
    with (
        started(*arguments, stderr=subprocess.PIPE) as process,
        open("pipe.csv", "w"),  # opens once the command reads, which then waits for lines
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert err == "virtualdepth verify: interrupted\n"
    assert not (tmp_path / "run").exists()


@posix
@pytest.mark.parametrize(
    "command",
    [MODULE, [sys.executable, "-c", "from virtualdepth.__main__ import start; start()"]],
    ids=["module", "script"],
)
def test_interrupt_before_anything_is_loaded(command: list[str], tmp_path: Path) -> None:
    """A module named torch waits where the real one would load, and swallows exceptions."""
    (tmp_path / "torch.py").write_text(
        "import time\n"
        "print('loading', flush=True)\n"
        "while True:\n"
        "    try: time.sleep(600)\n"
        "    except BaseException: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        [*command, *SMALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "virtualdepth verify: interrupted\n")


@posix
def test_interrupt_where_nobody_reads_any_more(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    code = (
        "import os, signal; from virtualdepth._interrupt import quit_on_interrupt; "
        "quit_on_interrupt('virtualdepth'); os.kill(os.getpid(), signal.SIGINT)"
    )
    found = subprocess.run([sys.executable, "-c", code], stderr=write, timeout=300)
    os.close(write)
    assert found.returncode == 130
