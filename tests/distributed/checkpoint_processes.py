"""What each of four processes does for `test_checkpoints.py`: two save, four load, one loads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from tests.distributed.equality import error, whole
from tests.distributed.four_processes import network
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from virtualdepth.optim import EndToEndSGD

PROCESSES, SAVING = 4, [0, 1]


def ours(model: nn.Module) -> Optimizer:
    return EndToEndSGD(model.named_parameters(), lr=0.01, depth=3, momentum=0.9, dampening=0.1)


def torchs(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, dampening=0.1)


def backward(model: nn.Module, seed: int) -> None:
    for p in model.parameters():
        p.grad = None
    (model(gaussian(8, 6, seed=seed)) - gaussian(8, 3, seed=seed)).square().mean().backward()


def train(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        backward(model, step)
        optimizer.step()


def everything(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Weights, momenta and counts, whole."""
    kept = [optimizer.state.get(p, {}) for p in model.parameters()]
    return [
        *(whole(p.detach()).clone() for p in model.parameters()),
        *(whole(state["momentum_buffer"]).clone() for state in kept if "momentum_buffer" in state),
        *(torch.tensor(state["step"]) for state in kept if "step" in state),
    ]


def save(model: nn.Module, optimizer: Optimizer, folder: Path, group: Any) -> None:
    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }
    dcp.save(state, checkpoint_id=folder, process_group=group)


def load(model: nn.Module, optimizer: Optimizer, folder: Path, alone: bool) -> None:
    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }
    dcp.load(state, checkpoint_id=folder, no_dist=alone)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"])


def resumed(
    make: Callable[[nn.Module], Optimizer], mesh: DeviceMesh | None, folder: Path
) -> dict[str, Any]:
    """Load into a model with other weights, whose gradients exist already; then go on."""
    model = network()
    for p in model.parameters():
        p.data.mul_(-1)
    if mesh is not None:
        fully_shard(model, mesh=mesh)
    optimizer = make(model)
    backward(model, 9)
    load(model, optimizer, folder / make.__name__, alone=mesh is None)
    saved, after = torch.load(folder / f"{make.__name__}.pt")
    found = everything(model, optimizer)
    same = len(found) == len(saved) and all(map(torch.equal, found, saved))
    train(model, optimizer, range(3, 5))
    pairs = zip(everything(model, optimizer), after, strict=False)
    return {"same": same, "goes on": max(error(a, b) for a, b in pairs)}


def saved_by_two(make: Callable[[nn.Module], Optimizer], mesh: DeviceMesh, folder: Path) -> None:
    model = fully_shard(network(), mesh=mesh)
    optimizer = make(model)
    train(model, optimizer, range(3))
    save(model, optimizer, folder / make.__name__, mesh.get_group())
    saved = everything(model, optimizer)
    train(model, optimizer, range(3, 5))
    torch.save((saved, everything(model, optimizer)), folder / f"{make.__name__}.pt")


def measure(rank: int, folder: Path) -> dict[str, Any]:
    two, four = DeviceMesh("cpu", SAVING), DeviceMesh("cpu", range(PROCESSES))
    if rank in SAVING:
        for make in (ours, torchs):
            saved_by_two(make, two, folder)
    dist.barrier()
    return {
        "four": resumed(ours, four, folder),
        "one": resumed(ours, None, folder),
        "torch.optim.SGD, four": resumed(torchs, four, folder),
    }
