"""Two processes with half the batch each: rank 0 alone logs, and logs what one process would."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.lightning.conftest import Flavour
from tests.lightning.monitors import two_processes

import virtualdepth


def on_two(flavour: Flavour, folder: Path) -> None:
    source = str(Path(virtualdepth.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, two_processes.__file__, flavour.package, flavour.ours, str(folder), "2"],
        env={**os.environ, "PYTHONPATH": source, "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def results(folder: Path, rank: int) -> dict[str, Any]:
    return json.loads((folder / f"rank{rank}.json").read_text())


def close(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(close, left, right))
    return left == pytest.approx(right, rel=1e-9, abs=1e-13, nan_ok=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_rank_zero_alone_logs_what_one_process_would(flavour: Flavour, tmp_path: Path) -> None:
    two_processes.fit(flavour.package, flavour.ours, tmp_path / "one", 1)
    on_two(flavour, tmp_path / "two")
    one, first, second = (
        results(tmp_path / "one", 0),
        results(tmp_path / "two", 0),
        results(tmp_path / "two", 1),
    )
    assert second["rank"] == 1
    assert close(first["series"], one["series"])
    assert first["violations"] == one["violations"]
    assert not any(second["series"])
    for folder in ("one", "two"):
        names = {file.name for file in (tmp_path / folder / "figures").rglob("*.png")}
        assert names == {"single.png", "deep.png", "effective_rank.png", "gap.png"}
        (table,) = (tmp_path / folder).rglob("metrics.csv")
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
        for name in ("spectrum/deep/sigma_1", "dynamics/deep/sigma_1", "equivalence/gap"):
            assert [int(row["step"]) for row in rows if row[name]] == [0, 2, 4], name
