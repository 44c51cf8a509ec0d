"""What each of two processes measures for `test_replicas.py`."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.traffic import Traffic
from tests.distributed.four_processes import network
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from virtualdepth.optim import EndToEndSGD, with_depth

PROCESSES, STEPS = 2, 30
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {"depth": 3, "momentum": 0.9, "weight_decay": 0.01},
    "unit": {"depth": 1.5, "step_scale": "unit"},
    "rms": {"depth": 2, "step_scale": "rms"},
}


def digest(tensors: list[Tensor]) -> str:
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in tensors)).hexdigest()


def backward(rank: int, step: int, model: nn.Module) -> None:
    """Data of its own on each process, in float32, where sums round."""
    x, y = gaussian(4, 6, seed=2 * step + rank), gaussian(4, 3, seed=2 * step + rank)
    model.zero_grad()
    (model(x.float()) - y.float()).square().mean().backward()


def replica(rank: int, options: dict[str, Any]) -> dict[str, Any]:
    model = DistributedDataParallel(network().float())
    optimizer = EndToEndSGD(model.parameters(), lr=0.01, **options)
    start, seen = digest(list(model.parameters())), Traffic()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    for step in range(STEPS):
        backward(rank, step, model)
        with seen:
            optimizer.step()
        schedule.step()
    kept = [
        value for s in optimizer.state.values() for value in s.values() if hasattr(value, "numpy")
    ]
    return {
        "moved": digest(list(model.parameters())) != start,
        "end": digest([*model.parameters(), *kept]),
        "collectives": dict(seen.counts),
        "sent": seen.sent,
    }


Params = Any
Make = Callable[..., Optimizer]


def ours(params: Params, depth: float = 3, **options: Any) -> Optimizer:
    return EndToEndSGD(params, **{"lr": 0.01, "depth": depth, **options})


def adamw(params: Params, depth: float = 3, **options: Any) -> Optimizer:
    return with_depth(
        torch.optim.AdamW(params, **{"lr": 0.01, **options}), depth, step_scale="raw", on="gradient"
    )


def update(params: Params, depth: float = 3, **options: Any) -> Optimizer:
    return with_depth(
        torch.optim.SGD(params, **{"lr": 0.01, **options}), depth, on="update", step_scale="raw"
    )


# what the second process has otherwise, and from which step on
DIFFERENT: dict[str, tuple[Make, dict[str, Any], int]] = {
    "rate": (ours, {"lr": 0.02}, 0),
    "depth": (ours, {"depth": 2}, 0),
    "plain": (ours, {"depth": 1}, 0),
    "solver": (ours, {"solver": "tracked"}, 0),
    "rate, later": (ours, {"lr": 0.02}, 2),
    "depth, later": (ours, {"depth": 2.5}, 2),
    "out of range, later": (ours, {"depth": 0.5}, 2),
    "tensor rate, later": (ours, {"lr": torch.tensor(0.02)}, 2),
    "betas": (adamw, {"betas": (0.8, 0.99)}, 0),
    "depth of AdamW, later": (adamw, {"depth": 2}, 2),
    "rate of updates, later": (update, {"lr": 0.02}, 1),
}


def different(rank: int, make: Make, options: dict[str, Any], since: int) -> dict[str, Any]:
    """Train until an error; the step that raised it has moved nothing."""
    model = DistributedDataParallel(network().float())
    others = options if rank == 1 else {}
    optimizer = make(model.module.parameters(), **(others if since == 0 else {}))
    for step in range(since + 2):
        backward(rank, step, model)
        if step == since:
            optimizer.param_groups[0].update(others)
        before = digest(list(model.parameters()))
        try:
            optimizer.step()
        except RuntimeError as error:
            after = digest(list(model.parameters()))
            return {"step": step, "message": str(error), "end": after, "same": after == before}
    return {"step": None, "message": "none"}


def joined(rank: int) -> list[int]:
    """One process has more data than the other, which `join` allows."""
    model = DistributedDataParallel(network().float())
    optimizer, steps = ours(model.parameters()), []
    with model.join():
        for step in range(3 + 2 * rank):
            backward(rank, step, model)
            optimizer.step()
            steps.append(step)
    return steps


def alone(rank: int) -> bool:
    """Models that nothing keeps equal may have options of their own, and steps of their own."""
    model = network().float()
    optimizer = ours(model.parameters(), lr=0.01 + rank)
    for step in range(1 + 2 * rank):
        backward(rank, step, model)
        optimizer.step()
    return True


def measure(rank: int, folder: Path) -> dict[str, Any]:
    return {
        **{name: replica(rank, options) for name, options in OPTIONS.items()},
        "different": {name: different(rank, *case) for name, case in DIFFERENT.items()},
        "joined": joined(rank),
        "alone": alone(rank),
    }
