"""What each of two processes runs in `test_sync.py`."""

import json
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from tests.metrics.cases import CASES, numbers

PROCESSES = 2


def compute_on(rank: int, folder: Path) -> None:
    """Feed every metric every second update, and write what each computes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=300),
    )
    results = {}
    for name, case in CASES.items():
        metric = case.make()
        for update in case.updates[rank::PROCESSES]:
            metric.update(*update)
        results[name] = numbers(metric.compute())
    torch.distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(results))
