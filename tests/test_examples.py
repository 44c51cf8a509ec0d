"""Every example runs as a user runs it, and its output shows that it learned."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
# examples that torchrun starts -> number of processes
LAUNCHED = {"fully_shard.py": 2}


def run(name: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error::UserWarning:virtualdepth"]
    if name in LAUNCHED:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(LAUNCHED[name])]
    finished = subprocess.run(
        [*command, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern + r" ([0-9.]+[0-9])", text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [script.name for script in SCRIPTS])
def test_it_runs_and_learns(name: str, tmp_path: Path) -> None:
    output = run(name, tmp_path)
    if name == "fine_tuning.py":
        plain, on_weight, on_change = numbers("relative error", output)
        assert on_change < 0.05 < 0.5 < min(plain, on_weight)
    elif name == "complete_matrix.py":
        (means,) = numbers("error of column means", output)
        (completed,) = numbers(r"error of depth \d:", output)
        (new_row,) = numbers("error of a new row", output)
        assert max(completed, new_row) < 0.01 < 0.5 < means  # the noise has 0.01
    else:
        losses = numbers("loss", output)
        assert losses[-1] < 1.0, output  # ten classes: 2.3 at the start
