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
# arguments that make an example small
SMALL = {"complete_millions.py": ["--entries", "200000"]}


def run(name: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error::UserWarning:virtualdepth"]
    if name in LAUNCHED:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(LAUNCHED[name])]
    finished = subprocess.run(
        [*command, str(EXAMPLES / name), *SMALL.get(name, [])],
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
        assert "rank 3, exact: True, unique: True" in output
        (noisy,) = numbers("error with noise", output)
        (new_row,) = numbers("error of a new row", output)
        assert max(noisy, new_row) < 0.1  # the noise has 0.1
    elif name == "complete_millions.py":
        error, ideal = numbers("relative error", output) + numbers("of parameters", output)
        (covered,) = numbers("95 % intervals", output)
        assert "rank 10," in output
        assert error < 1.15 * ideal
        assert 0.92 < covered < 0.98
    elif name == "complete_table.py":
        completed, neighbours, means = numbers("missing entries", output)
        assert completed < 0.9 * min(neighbours, means)
    elif name == "adamw_with_depth.py":
        plain, deep = numbers("unseen entries", output)
        assert deep < 0.3 < 0.8 < plain
    elif name == "depth_finds_the_rank.py":
        errors = {
            float(d): float(e) for d, e, _ in re.findall(r"^ +(\S+) +(\S+) +(\S+)$", output, re.M)
        }
        assert errors[1] > 0.9
        assert errors[3] < 0.02
    else:
        losses = numbers("loss", output)
        assert losses[-1] < 1.0, output  # ten classes: 2.3 at the start
