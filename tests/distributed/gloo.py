"""Run a function on several gloo processes of this machine."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from filelock import FileLock

# loaded once, in the process that all others are forked from
HEAVY = ["tests.distributed.equality", "torch.distributed.checkpoint", "torch.distributed.fsdp"]
GROUP_TIMEOUT = timedelta(seconds=300)  # how long a collective waits

Measure = Callable[[int, Path], Any]


def measured_once(measure: Measure, processes: int, factory: pytest.TempPathFactory) -> list[Any]:
    """What each process measured; workers of pytest-xdist share one answer."""
    workers = "PYTEST_XDIST_WORKER" in os.environ
    folder = factory.getbasetemp().parent if workers else factory.getbasetemp()
    answers = folder / f"{measure.__module__}.json"
    with FileLock(answers.with_suffix(".lock")):
        if not answers.exists():
            found = on_processes(measure, processes, factory.mktemp("gloo"))
            answers.write_text(json.dumps(found))
        return list(json.loads(answers.read_text()))


def on_processes(measure: Measure, processes: int, folder: Path) -> list[Any]:
    """What each process measured, by rank; None for one that ended without an answer."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*HEAVY, measure.__module__])
    running = [
        context.Process(target=_measure, args=(measure, rank, processes, folder), daemon=True)
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    try:
        for process in running:
            process.join()
    finally:  # when pytest's own time limit ends the test, too
        for process in running:
            process.kill()
    answers = [folder / f"{rank}.json" for rank in range(processes)]
    return [json.loads(path.read_text()) if path.exists() else None for path in answers]


def _measure(measure: Measure, rank: int, processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=processes,
        timeout=GROUP_TIMEOUT,
    )
    answer = measure(rank, folder)
    (folder / f"{rank}.json").write_text(json.dumps(answer))
    dist.destroy_process_group()
