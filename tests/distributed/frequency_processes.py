"""What each of two processes measures for `test_frequency.py`."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from benchmarks.traffic import Traffic
from tests.distributed.equality import Place, deficient, error, well_conditioned, whole
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard

from virtualdepth.optim import EndToEndSGD, routing

PROCESSES = 2
FREQUENCY = 3
STEPS = 8
# tall and wide, uneven, with an empty part
SHAPES = ((9, 4), (4, 9), (41, 3), (6, 6), (2, 5))
OPTIONS: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "weight_decay": 0.01, "depth": 3},
    "unit": {"step_scale": "unit", "depth": 1.5},
    "unequal": {"imbalance": 0.1, "depth": 3},
    "cut": {"rtol": 0.5, "depth": 2},
}


class Pair:
    """The same matrices on one process and on several, with an optimizer for each."""

    def __init__(self, place: Place, weights: Sequence[Tensor], **options: Any) -> None:
        self.place = place
        self.alone = [nn.Parameter(weight.clone()) for weight in weights]
        self.parts = [nn.Parameter(place.deal(weight)) for weight in weights]
        given = {"lr": 0.02, "depth": 3, "precondition_frequency": FREQUENCY, **options}
        self.optimizers = [EndToEndSGD(ps, **given) for ps in (self.alone, self.parts)]
        self.taken = 0

    def step(self) -> None:
        for index, (p, part) in enumerate(zip(self.alone, self.parts, strict=True)):
            p.grad = gaussian(*p.shape, seed=100 * self.taken + index).to(p.dtype)
            part.grad = self.place.deal(p.grad)
        for optimizer in self.optimizers:
            optimizer.step()
        self.taken += 1

    def error(self) -> float:
        pairs = zip(self.alone, self.parts, strict=True)
        return max(error(whole(part.detach()), p.detach()) for p, part in pairs)

    def decomposed(self) -> list[list[int]]:
        return [
            [state["basis_decomposed"] for state in optimizer.state.values()]
            for optimizer in self.optimizers
        ]


def errors(place: Place) -> dict[str, float]:
    found = {}
    for shape in SHAPES:
        for name, options in OPTIONS.items():
            pair, largest = Pair(place, [well_conditioned(shape)], **options), 0.0
            for _ in range(STEPS):
                pair.step()
                largest = max(largest, pair.error())
            found[f"{shape}, {name}"] = largest
    return found


def turns(place: Place) -> dict[str, Any]:
    """Two tall matrices, which take turns as they do on one process."""
    pair = Pair(place, [well_conditioned(shape) for shape in ((41, 3), (9, 4))])
    before, seen = pair.decomposed(), []
    for _ in range(STEPS):
        pair.step()
        after = pair.decomposed()
        seen.append(
            [
                [b - a for a, b in zip(*each, strict=True)]
                for each in zip(before, after, strict=True)
            ]
        )
        before = after
    return {"error": pair.error(), "turns": seen}


def changed(place: Place, rank: int) -> dict[str, Any]:
    """A write to what one process holds, between two decompositions; then another depth."""
    pair = Pair(place, [well_conditioned((9, 4))])
    for _ in range(2):
        pair.step()
    before = pair.decomposed()
    pair.alone[0].data[-1] *= 2
    if rank == PROCESSES - 1:
        pair.parts[0].to_local().data[-1] *= 2
    pair.step()
    pair.step()
    written, between = pair.decomposed(), pair.error()
    for optimizer in pair.optimizers:
        optimizer.param_groups[0]["depth"] = 2
    pair.step()
    return {"counts": [before, written, pair.decomposed()], "errors": [between, pair.error()]}


def resumed(place: Place, folder: Path) -> dict[str, bool]:
    """Whether a run goes on to the last bit: from a state_dict, and from a file of both."""
    weights = [well_conditioned(shape) for shape in ((9, 4), (41, 3))]
    pair = Pair(place, weights, momentum=0.9)
    for _ in range(5):
        pair.step()
    optimizer = pair.optimizers[1]
    kept, start = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in pair.parts]
    model = nn.ParameterList(pair.parts)
    dcp.save({"optimizer": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder)
    pair.step()
    pair.step()
    end = [whole(p.detach()) for p in pair.parts]
    found = {}
    for way in ("state_dict", "file"):
        again = Pair(place, weights, momentum=0.9)
        for p, value in zip(again.parts, start, strict=True):
            p.data.copy_(value)
        own, model = again.optimizers[1], nn.ParameterList(again.parts)
        if way == "file":
            loaded = {"optimizer": get_optimizer_state_dict(model, own)}
            dcp.load(loaded, checkpoint_id=folder)
            set_optimizer_state_dict(model, own, loaded["optimizer"])
        else:
            own.load_state_dict(kept)
        again.taken = 5
        again.step()
        again.step()
        pairs = zip(again.parts, end, strict=True)
        same = all(torch.equal(whole(p.detach()), value) for p, value in pairs)
        counts = again.decomposed()[1] == pair.decomposed()[1]
        found[way] = same and counts
    return found


def sent(place: Place) -> dict[str, Any]:
    """Collectives and bytes of one step of a kind."""
    pair = Pair(place, [well_conditioned((41, 3))])
    pair.step()
    found = []
    for _ in range(FREQUENCY):
        with Traffic() as seen:
            pair.step()
        found.append([dict(seen.counts), seen.sent])
    return {"sent": found, "scheme": [route.scheme for route in routing(pair.optimizers[1])]}


def undetermined(place: Place) -> dict[str, Any]:
    """Of rank 1: no sum tells its basis, so that it is fetched and decomposed at every step."""
    pair = Pair(place, [deficient((9, 4))], lr=1e-6)
    alone = Pair(place, [deficient((9, 4))], lr=1e-6, precondition_frequency=1)
    pair.step()
    alone.step()
    return {
        "error": error(whole(pair.parts[0].detach()), alone.alone[0].detach()),
        "counts": pair.decomposed()[1],
        "depth": next(iter(pair.optimizers[1].state.values()))["basis_depth"],
    }


def narrow(place: Place) -> dict[str, float]:
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        pair = Pair(place, [well_conditioned((41, 3)).to(dtype)])
        for _ in range(STEPS):
            pair.step()
        found[str(dtype)] = pair.error()
    return found


def missing(place: Place, rank: int) -> str:
    """A gradient on one process alone, between two decompositions."""
    pair = Pair(place, [well_conditioned((9, 4))])
    pair.step()
    pair.parts[0].grad = place.deal(torch.ones(9, 4, dtype=torch.float64)) if rank == 0 else None
    try:
        pair.optimizers[1].step()
    except RuntimeError as problem:
        return str(problem)
    return "none"


def measure(rank: int, folder: Path) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (PROCESSES,))
    rows, columns = Place(mesh, [Shard(0)]), Place(mesh, [Shard(1)])
    return {
        "rows": errors(rows),
        "columns": errors(columns),
        "turns": turns(rows),
        "changed": changed(rows, rank),
        "resumed, rows": resumed(rows, folder.parent / "rows"),
        "resumed, columns": resumed(columns, folder.parent / "columns"),
        "sent": sent(rows),
        "undetermined": undetermined(rows),
        "narrow": narrow(rows),
        "missing": missing(rows, rank),
    }
