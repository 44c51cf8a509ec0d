"""What each of two gloo processes runs for `test_sharded.py`: it measures, the test judges."""

import json
import math
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tests.maths.matrices import gaussian, with_spectrum
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from virtualdepth.optim import EndToEndSGD

PROCESSES = 2
PLACEMENTS = {"rows": Shard(0), "columns": Shard(1), "copies": Replicate()}
# tall and wide, uneven (odd sides), an empty part (1 on a side), long (gram) and square (gather)
SHAPES = ((6, 6), (9, 4), (41, 3), (3, 41), (1, 7))
DEPTHS = (1.5, 3, math.inf)
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {},
    "momentum": {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True, "maximize": True},
    "unit": {"step_scale": "unit", "weight_decay": 0.01},
}


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def weight_of(shape: tuple[int, int]) -> Tensor:
    return with_spectrum(shape, torch.linspace(1, 0.3, min(shape), dtype=torch.float64))


def sharded(whole: Tensor, mesh: DeviceMesh, placement: Placement) -> nn.Parameter:
    # a copy: the parts may share its memory
    return nn.Parameter(distribute_tensor(whole.clone(), mesh, [placement]))


def error(result: Tensor, truth: Tensor) -> float:
    return ((result - truth).norm() / truth.norm()).item()


def after_steps(mesh: DeviceMesh, placement: Placement, depth: float, options: Any) -> float:
    """Three steps of all shapes at once, against the same on this process alone."""
    wholes = [nn.Parameter(weight_of(shape)) for shape in SHAPES]
    parts = [sharded(p.detach(), mesh, placement) for p in wholes]
    optimizers = [EndToEndSGD(ps, lr=0.01, depth=depth, **options) for ps in (wholes, parts)]
    for step in range(3):
        for index, (p, part) in enumerate(zip(wholes, parts, strict=True)):
            p.grad = gaussian(*p.shape, seed=10 * step + index)
            part.grad = distribute_tensor(p.grad, mesh, [placement])
        for optimizer in optimizers:
            optimizer.step()
    errors = []
    for p, part in zip(wholes, parts, strict=True):
        errors.append(error(whole(part), p.detach()))
        if "momentum" in options:
            kept, own = (
                o.state[q]["momentum_buffer"] for o, q in zip(optimizers, (p, part), strict=True)
            )
            assert isinstance(own, DTensor)
            assert own.placements == part.placements
            errors.append(error(whole(own), kept))
    return max(errors)


class Model(nn.Sequential):
    """A convolution, packed rows, uneven parts: 7 and 3 rows on two processes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(20, 7), nn.Tanh(), nn.Linear(7, 3)
        )
        self.double()
        for index, p in enumerate(self.parameters()):
            p.data = 0.5 * gaussian(*p.shape, seed=index)


def trained_by_fully_shard(rank: int, mesh: DeviceMesh) -> float:
    """Halves of a batch on two processes, against the batch on one."""
    x, y = gaussian(8, 2, 4, 4), gaussian(8, 3)
    alone, model = Model(), Model()
    fully_shard(model[2], mesh=mesh)
    fully_shard(model, mesh=mesh)
    for net, rows in ((alone, slice(None)), (model, slice(rank, None, 2))):
        optimizer = EndToEndSGD(net.parameters(), lr=0.01, depth=3, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            (net(x[rows]) - y[rows]).square().mean().backward()
            optimizer.step()
    pairs = zip(model.parameters(), alone.parameters(), strict=True)
    return max(error(whole(p), q.detach()) for p, q in pairs)


def collectives(mesh: DeviceMesh, shapes: list[tuple[int, int]], **options: Any) -> dict[str, int]:
    """Count those of the second step; the first also compares parameters."""
    parts = [sharded(weight_of(shape), mesh, Shard(0)) for shape in shapes]
    optimizer = EndToEndSGD(parts, lr=0.01, depth=3, **options)
    for part in parts:
        part.grad = distribute_tensor(gaussian(*part.shape), mesh, [Shard(0)])
    optimizer.step()
    with CommDebugMode() as counted:
        optimizer.step()
    return {str(key).rsplit(".", maxsplit=1)[-1]: n for key, n in counted.comm_counts.items() if n}


def singular_matrix(mesh: DeviceMesh) -> tuple[float, dict[str, int]]:
    """Exactly of rank 1 in float64: below what sums of squares can tell."""
    weight = torch.outer(torch.arange(1.0, 42.0), torch.tensor([1.0, 2.0, 4.0])).double()
    p, part = nn.Parameter(weight.clone()), sharded(weight, mesh, Shard(0))
    p.grad = gaussian(41, 3)
    part.grad = distribute_tensor(p.grad, mesh, [Shard(0)])
    EndToEndSGD([p], lr=0.01, depth=2).step()
    with CommDebugMode() as counted:
        EndToEndSGD([part], lr=0.01, depth=2).step()
    counts = {str(k).rsplit(".", maxsplit=1)[-1]: n for k, n in counted.comm_counts.items() if n}
    return error(whole(part), p.detach()), counts


def fault(mesh: DeviceMesh, spoil: Callable[[list[nn.Parameter], EndToEndSGD], None]) -> Any:
    """Spoil something (on one process), step, and report error, time, and what changed."""
    parts = [sharded(weight_of(shape), mesh, Shard(0)) for shape in ((41, 3), (6, 6))]
    plain = nn.Parameter(weight_of((3, 3)))
    optimizer = EndToEndSGD(
        [("long", parts[0]), ("square", parts[1]), ("plain", plain)], 0.1, depth=3, momentum=0.9
    )
    everything = [*parts, plain]

    def step() -> None:
        for p in everything:
            grad = gaussian(*p.shape)
            p.grad = distribute_tensor(grad, mesh, [Shard(0)]) if p is not plain else grad
        optimizer.step()

    step()
    weights = [whole(p.detach()).clone() for p in everything]
    momenta = [whole(optimizer.state[p]["momentum_buffer"]).clone() for p in everything]
    spoil(everything, optimizer)
    began = time.monotonic()
    try:
        optimizer.step()
        message = "none"
    except Exception as problem:
        message = f"{type(problem).__name__}: {problem}"
    seconds = time.monotonic() - began
    same = all(
        torch.equal(whole(p.detach()), before) or bool(before.isnan().any())
        for p, before in zip(everything, weights, strict=True)
    ) and all(
        torch.equal(whole(optimizer.state[p]["momentum_buffer"]), before)
        for p, before in zip(everything, momenta, strict=True)
    )
    before = weights[0]
    step()  # nobody was left behind
    return {
        "message": message,
        "seconds": seconds,
        "same": same,
        "goes on": not torch.equal(whole(parts[0].detach()), before),
    }


def local(tensor: Any) -> Tensor:
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def huge(p: Any) -> None:
    """A finite gradient of which P is not: about along W, which P_W doubles or more."""
    part = local(p.detach())
    local(p.grad).copy_(part / part.abs().max() * 1.7e308)


def faults(rank: int, mesh: DeviceMesh) -> dict[str, Any]:
    def on_rank_1(spoil: Callable[[list[nn.Parameter], EndToEndSGD], Any]) -> Any:
        return fault(mesh, lambda ps, optimizer: spoil(ps, optimizer) if rank == 1 else None)

    return {
        "nan in gram": on_rank_1(lambda ps, _: local(ps[0].grad).fill_(math.nan)),
        "inf in gathered": on_rank_1(lambda ps, _: local(ps[1].grad)[0].fill_(math.inf)),
        "nan in plain": on_rank_1(lambda ps, _: ps[2].grad.fill_(math.nan)),
        "overflow": on_rank_1(lambda ps, _: huge(ps[0])),
        "exception": on_rank_1(lambda ps, _: setattr(ps[2], "grad", ps[2].grad.to_sparse())),
        "missing": on_rank_1(lambda ps, _: setattr(ps[0], "grad", None)),
        "missing everywhere": fault(mesh, lambda ps, _: setattr(ps[0], "grad", None)),
    }


def different_parameters(rank: int, mesh: DeviceMesh) -> str:
    shapes = [(5, 4), (4, 3 + rank)]
    parts = [sharded(torch.ones(shape), mesh, Shard(0)) for shape in shapes]
    optimizer = EndToEndSGD([(f"w{i}", p) for i, p in enumerate(parts)], lr=0.1)
    try:
        optimizer.step()
    except RuntimeError as problem:
        return str(problem)
    return "none"


def run(rank: int, folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=30),
    )
    mesh = init_device_mesh("cpu", (PROCESSES,))
    measured = {
        "steps": {
            f"{where} {depth} {option}": after_steps(mesh, placement, depth, OPTIONS[option])
            for where, placement in PLACEMENTS.items()
            for depth in DEPTHS
            for option in OPTIONS
        },
        "fully_shard": trained_by_fully_shard(rank, mesh),
        "gram": collectives(mesh, [(41, 3), (50, 4)], momentum=0.9),
        "gather": collectives(mesh, [(6, 6)]),
        "singular": singular_matrix(mesh),
        "faults": faults(rank, mesh),
        "different": different_parameters(rank, mesh),
    }
    (folder / f"{rank}.json").write_text(json.dumps(measured))
    dist.destroy_process_group()
