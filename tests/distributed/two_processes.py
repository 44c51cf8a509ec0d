"""What each of two processes measures for `test_two_processes.py`."""

from pathlib import Path
from typing import Any

import torch
from tests.distributed.equality import (
    Place,
    after_steps,
    beyond_range,
    deficient,
    errors_at,
    kernels,
    structured,
    traffic,
    trained,
    well_conditioned,
)
from tests.distributed.refusals import refused
from tests.maths.matrices import gaussian
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard

from virtualdepth.optim import EndToEndSGD, routing

PROCESSES = 2
PLACEMENTS = {"rows": Shard(0), "columns": Shard(1), "copies": Replicate()}
SCHEMES = ("gram", "gather", "owner")


class Network(nn.Sequential):
    """Convolution, packed attention weights, uneven parts: 7 and 3 rows on two processes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (2, 3)),
            nn.Conv1d(2, 5, 2),
            nn.Flatten(),
            nn.Linear(10, 7),
            nn.Tanh(),
            nn.Linear(7, 3),
        )
        self.double()
        for index, p in enumerate(self.parameters()):
            p.data = 0.5 * gaussian(*p.shape, seed=index)


def measure(rank: int, folder: Path) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (PROCESSES,))
    places = {name: Place(mesh, [placement]) for name, placement in PLACEMENTS.items()}
    rows = places["rows"]
    model = Network()
    fully_shard(model[3], mesh=mesh)
    fully_shard(model, mesh=mesh)
    options = {"depth": 3, "momentum": 0.9}
    weights = [well_conditioned(shape) for shape in ((41, 3), (6, 6))]
    return {
        "errors": {name: errors_at(place, SCHEMES) for name, place in places.items()},
        "narrow": {
            str(dtype): after_steps(rows, weights, dtype=dtype)
            for dtype in (torch.float32, torch.bfloat16)
        },
        "structured": {name: structured(place) for name, place in places.items()},
        "whole rows": traffic(rows, [(6, 6), (41, 3)], structure="rows"),
        "whole entries": traffic(rows, [(6, 6), (41, 3)], structure="diagonal", momentum=0.9),
        "one scale": traffic(rows, [(6, 6)], structure="rows", step_scale="unit"),
        "unequal": traffic(rows, [(41, 3), (50, 4)], imbalance=0.1),
        "unequal, unit": traffic(rows, [(41, 3)], imbalance=0.1, step_scale="unit"),
        "kernels": {scheme: kernels(mesh, scheme) for scheme in SCHEMES},
        "beyond range": {scheme: beyond_range(rows, scheme) for scheme in SCHEMES},
        "fully_shard": trained(model, Network(), slice(rank, None, PROCESSES), options),
        "gram": traffic(rows, [(41, 3), (50, 4)], momentum=0.9),
        "rank 1": traffic(rows, [(41, 3)], deficient, lr=0.0),
        "rank 1, known": traffic(rows, [(41, 3)], deficient, lr=0.0, rtol=1e-6),
        "gather": traffic(rows, [(6, 6), (40, 4)], scheme="gather"),
        "owner": traffic(rows, [(6, 6), (8, 8)]),
        "refused": refused(rows),
        "routing": str(routing(EndToEndSGD(model.named_parameters(), **options))),
        "copies": traffic(places["copies"], [(6, 6), (41, 3)]),
    }
