"""What each of two processes measures for `test_replicas.py`."""

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.traffic import Traffic
from tests.distributed.four_processes import network
from tests.maths.matrices import gaussian
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from virtualdepth.optim import EndToEndSGD

PROCESSES, STEPS = 2, 30
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {"depth": 3, "momentum": 0.9, "weight_decay": 0.01},
    "unit": {"depth": 1.5, "step_scale": "unit"},
    "rms": {"depth": 2, "step_scale": "rms"},
}


def digest(tensors: list[Tensor]) -> str:
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in tensors)).hexdigest()


def replica(rank: int, options: dict[str, Any]) -> dict[str, Any]:
    """Data of its own on each process, in float32, where sums round."""
    model = DistributedDataParallel(network().float())
    optimizer = EndToEndSGD(model.parameters(), lr=0.01, **options)
    start, seen = digest(list(model.parameters())), Traffic()
    for step in range(STEPS):
        x, y = gaussian(4, 6, seed=2 * step + rank), gaussian(4, 3, seed=2 * step + rank)
        optimizer.zero_grad()
        (model(x.float()) - y.float()).square().mean().backward()
        with seen:
            optimizer.step()
    kept = [
        value for s in optimizer.state.values() for value in s.values() if hasattr(value, "numpy")
    ]
    return {
        "moved": digest(list(model.parameters())) != start,
        "end": digest([*model.parameters(), *kept]),
        "collectives": dict(seen.counts),
    }


def measure(rank: int, folder: Path) -> dict[str, Any]:
    return {name: replica(rank, options) for name, options in OPTIONS.items()}
