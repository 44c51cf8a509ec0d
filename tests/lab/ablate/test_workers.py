"""What each worker of a machine is given of it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from virtualdepth_lab.ablate.workers import Workers, gpus_of

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("named", "count", "devices", "expected"),
    [
        (None, 2, 1, ["0", "1", "0"]),
        (None, 8, 1, ["0", "1", "2"]),
        (None, 1, 1, ["0", "0", "0"]),
        (None, 4, 2, ["0,1", "2,3", "0,1"]),
        (None, 3, 2, ["0,1", "2,0", "1,2"]),
        ("5,7", 2, 1, ["5", "7", "5"]),
        ("GPU-8f,MIG-3c,GPU-1a", 3, 1, ["GPU-8f", "MIG-3c", "GPU-1a"]),
        ("3,-1,4", 1, 1, ["3", "3", "3"]),  # CUDA stops at the first that is none
        # what is left to Lightning, which sees all, or says that there are too few
        (None, 0, 1, [None] * 3),
        ("", 0, 1, [None] * 3),
        (None, 2, 3, [None] * 3),
        *((None, 4, devices, [None] * 3) for devices in ("auto", -1, [1, 2], "1,2", 0)),
    ],
)
def test_gpus_are_taken_in_turn(
    named: str | None, count: int, devices: Any, expected: list[Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(VISIBLE, raising=False)
    if named is not None:
        monkeypatch.setenv(VISIBLE, named)
    assert [gpus_of(number, 3, devices).get(VISIBLE) for number in range(3)] == expected
    assert gpus_of(0, 1, devices) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of a process in /proc")
def test_each_process_gets_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(VISIBLE, "4,6")
    with Workers(3, tmp_path) as workers:
        found = [environment(name)[VISIBLE] for name in workers.names]
    assert found == ["4", "6", "4"]


def environment(worker: str) -> dict[str, str]:
    process = worker.rpartition(":")[2]
    words = Path("/proc", process, "environ").read_text(encoding="utf-8").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)
