"""What cannot be sharded, and what is said of it."""

from collections.abc import Callable
from typing import Any

import torch
from tests.distributed.equality import Place
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from virtualdepth.optim import EndToEndSGD, param_groups, with_depth


def message(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    return "none"


def sharded(place: Place, **options: Any) -> EndToEndSGD:
    weight = nn.Parameter(place.deal(torch.ones(6, 4)))
    return EndToEndSGD([{"params": [("w", weight)], **options}], lr=0.1)


def of_summands(place: Place) -> EndToEndSGD:
    part = DTensor.from_local(torch.ones(6, 4), place.mesh, [Partial()], run_check=False)
    return EndToEndSGD([("w", nn.Parameter(part))], lr=0.1)


def changed_later(place: Place, **options: Any) -> None:
    optimizer = sharded(place)
    optimizer.step()
    optimizer.param_groups[0].update(options)
    optimizer.step()


def loaded(place: Place, solver: str) -> None:
    """From a checkpoint of one process; nothing is made for what cannot be."""
    weight, optimizer = nn.Parameter(torch.ones(6, 4)), sharded(place, depth=3, momentum=0.9)
    alone = EndToEndSGD([("w", weight)], lr=0.1, depth=3, momentum=0.9, solver=solver)
    optimizer.load_state_dict({**alone.state_dict(), "state": {}})
    (state,) = optimizer.state.values()
    assert [key for key, value in state.items() if torch.is_tensor(value)] == ["momentum_buffer"]
    optimizer.step()


def whole_momentum(place: Place) -> None:
    """A checkpoint of one process, not read through torch.distributed.checkpoint."""
    alone = EndToEndSGD([("w", nn.Parameter(torch.ones(6, 4)))], lr=0.1, momentum=0.9)
    optimizer = sharded(place, momentum=0.9)
    optimizer.load_state_dict(alone.state_dict())
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = place.deal(torch.ones(6, 4))
    optimizer.step()


def gradient_elsewhere(place: Place, elsewhere: Place) -> None:
    optimizer = sharded(place)
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = elsewhere.deal(torch.ones(6, 4))
    optimizer.step()


def flattened(keep: bool) -> nn.Module:
    return FullyShardedDataParallel(
        nn.Linear(4, 4), use_orig_params=keep, device_id=torch.device("cpu")
    )


def refused(place: Place) -> dict[str, str]:
    """Of rows on two processes."""
    weight = nn.Parameter(place.deal(torch.ones(6, 4)))
    copies = Place(place.mesh, [Replicate()])
    backwards = Place(DeviceMesh("cpu", [1, 0]), place.placements)
    calls: dict[str, Callable[[], Any]] = {
        "summands": lambda: of_summands(place),
        "rms": lambda: sharded(place, step_scale="rms"),
        "auto": lambda: sharded(place, step_scale="auto"),
        "origin": lambda: sharded(place, origin="init"),
        "frequency": lambda: sharded(place, precondition_frequency=2),
        "frequency, gathered": lambda: sharded(place, scheme="gather", precondition_frequency=2),
        "frequency, packed": lambda: sharded(place, blocks=3, precondition_frequency=2),
        "frequency, copies": lambda: sharded(copies, precondition_frequency=2),
        "rows, frequency": lambda: sharded(place, structure="rows", precondition_frequency=2),
        "frequency later": lambda: changed_later(place, precondition_frequency=2),
        "packed": lambda: sharded(place, blocks=3, scheme="gram"),
        "unknown": lambda: sharded(place, scheme="ring"),
        "changed later": lambda: changed_later(place, step_scale="rms"),
        "unknown later": lambda: changed_later(place, scheme="ring"),
        "no number later": lambda: changed_later(place, depth="3"),
        "tracked": lambda: sharded(place, solver="tracked"),
        "layers": lambda: sharded(place, solver="layers"),
        "tracked later": lambda: changed_later(place, solver="tracked"),
        "layers later": lambda: changed_later(place, solver="layers"),
        "tracked, loaded": lambda: loaded(place, "tracked"),
        "layers, loaded": lambda: loaded(place, "layers"),
        "whole momentum": lambda: whole_momentum(place),
        "gradient elsewhere": lambda: gradient_elsewhere(place, copies),
        "gradient on another mesh": lambda: gradient_elsewhere(place, backwards),
        "with_depth": lambda: with_depth(
            torch.optim.SGD([("w", weight)], lr=0.1), 2, step_scale="raw", on="gradient"
        ),
        "flattened": lambda: EndToEndSGD(flattened(keep=True).parameters(), lr=0.1),
        "flat": lambda: EndToEndSGD(flattened(keep=False).parameters(), lr=0.1),
        "flattened, by module": lambda: param_groups(flattened(keep=True), 3),
    }
    return {name: message(call) for name, call in calls.items()}


def refused_on_grids(flat: Place, grid: Place) -> dict[str, str]:
    """Of meshes of two dimensions over four processes."""
    weights = [("a", nn.Parameter(place.deal(torch.ones(4, 4)))) for place in (flat, grid)]
    blocks = Place(grid.mesh, [Shard(0), Shard(1)])
    calls: dict[str, Callable[[], Any]] = {
        "two meshes": lambda: EndToEndSGD(weights, lr=0.1),
        "gram of blocks": lambda: sharded(blocks, scheme="gram"),
        "owner of blocks": lambda: sharded(blocks, scheme="owner"),
    }
    return {name: message(call) for name, call in calls.items()}
