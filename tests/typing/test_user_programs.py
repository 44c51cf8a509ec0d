"""What `mypy --strict` says about two programs of users: one is right, one is wrong on purpose."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = [HERE / "user_program.py", HERE / "wrong_program.py"]
ERROR = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$", re.MULTILINE)
MARK = re.compile(r"# error: (\S+)$")


def marked(program: Path) -> set[tuple[str, int, str]]:
    marks = map(MARK.search, program.read_text(encoding="utf-8").splitlines())
    return {(program.name, number, mark[1]) for number, mark in enumerate(marks, start=1) if mark}


@pytest.mark.slow
@pytest.mark.timeout(1500)  # reads torch and Lightning where no run of mypy has left its cache
def test_mypy_finds_the_marked_errors_and_no_others() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *map(str, PROGRAMS)],
        cwd=ROOT,  # the configuration, and so the cache, of `make test`
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 2: mypy itself failed
    found = {
        (Path(error["file"]).name, int(error["line"]), error["code"])
        for error in ERROR.finditer(done.stdout)
    }
    right, wrong = map(marked, PROGRAMS)
    assert right == set()
    assert found == wrong, done.stdout
    assert f"Found {len(wrong)} errors in 1 file" in done.stdout


def test_the_wrong_program_is_wrong_for_both_flavours() -> None:
    (_, program) = PROGRAMS
    text = program.read_text(encoding="utf-8")
    for flavour in ("lightning", "lightning_unified"):
        for option in ('on="updates"', 'step_scale="units"', 'step_scale="auto"', 'solver="svdd"'):
            assert f"vd.{flavour}.VirtualDepth(3, {option})  # error: arg-type" in text
