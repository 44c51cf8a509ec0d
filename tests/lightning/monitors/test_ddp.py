"""Two processes with half the batch each: rank 0 alone logs, and logs what one process would."""

import csv
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.lightning.conftest import FLAVOURS, Flavour
from tests.lightning.monitors import two_processes

import virtualdepth


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes, started once, have trained with each flavour."""
    folder = tmp_path_factory.mktemp("two")
    source = str(Path(virtualdepth.__file__).parents[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    flavours = [name for flavour in FLAVOURS for name in (flavour.package, flavour.ours)]
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, str(folder), *flavours],
            env={
                **os.environ,
                **shared,
                "PYTHONPATH": source,
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return folder


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
def test_rank_zero_alone_logs_what_one_process_would(
    flavour: Flavour, on_two: Path, tmp_path: Path
) -> None:
    two_processes.fit(flavour.package, flavour.ours, tmp_path, 1)
    two = on_two / flavour.package
    one, first, second = results(tmp_path, 0), results(two, 0), results(two, 1)
    assert second["rank"] == 1
    assert close(first["series"], one["series"])
    assert first["violations"] == one["violations"]
    assert not any(second["series"])
    for folder in (tmp_path, two):
        names = {file.name for file in (folder / "figures").rglob("*.png")}
        assert names == {"single.png", "deep.png", "effective_rank.png", "gap.png"}
        (table,) = folder.rglob("metrics.csv")
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
        for name in ("spectrum/deep/sigma_1", "dynamics/deep/sigma_1", "equivalence/gap"):
            assert [int(row["step"]) for row in rows if row[name]] == [0, 2, 4], name


@pytest.mark.slow
def test_a_product_that_one_process_does_not_use_is_recorded(on_two: Path) -> None:
    """Both take part in the average: neither waits for the other."""
    assert json.loads((on_two / "uneven.json").read_text()) == [0, 1]


@pytest.mark.slow
def test_what_fails_on_one_process_alone_lets_none_wait(on_two: Path) -> None:
    found = json.loads((on_two / "fail_on_one.json").read_text())
    # step 3 has no loss on one process: neither it nor the one before it can be checked
    assert found["descent"] == [0, 1, 4, 5]
    # step 1 was not seen: nothing is known of its interval, and what follows is right again
    assert [math.isnan(error) for error in found["errors"]] == [i in (0, 2) for i in range(8)]
    assert max(found["errors"][3:]) < 0.01
