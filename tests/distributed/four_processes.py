"""What each of four processes measures for `test_four_processes.py`."""

from pathlib import Path
from typing import Any

from tests.distributed.equality import (
    Place,
    errors_at,
    structured,
    traffic,
    trained,
    very_unequal,
)
from tests.distributed.refusals import refused_on_grids
from tests.maths.matrices import gaussian
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from virtualdepth.optim import EndToEndSGD, routing

PROCESSES = 4
FLAT, GRID = (4,), (2, 2)
ANY, FETCHED = ("gram", "gather", "owner"), ("gather", "owner")
# mesh, placements, and the schemes that can serve
PLACES: dict[str, tuple[tuple[int, ...], list[Any], tuple[str, ...]]] = {
    "rows": (FLAT, [Shard(0)], ANY),
    "columns": (FLAT, [Shard(1)], ANY),
    "copies of rows": (GRID, [Replicate(), Shard(0)], ANY),
    "copies of columns": (GRID, [Shard(1), Replicate()], ANY),
    "rows, twice": (GRID, [Shard(0), Shard(0)], ("gram", "gather")),
    "blocks": (GRID, [Shard(0), Shard(1)], ("gather",)),
}
# where blocks are cut, and where sums tell P_W
STRUCTURED, VERY_UNEQUAL = ("blocks", "copies of rows"), ("columns", "copies of rows")


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 6), nn.Linear(6, 3)).double()
    for index, p in enumerate(model.parameters()):
        p.data = 0.5 * gaussian(*p.shape, seed=index)
    return model


def tensor_parallel(mesh: DeviceMesh) -> nn.Sequential:
    model = network()
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def trained_models(rank: int, flat: DeviceMesh, grid: DeviceMesh) -> dict[str, float]:
    everything, half = slice(None), slice(rank // 2, None, 2)
    return {
        "fully_shard": trained(
            fully_shard(network(), mesh=flat), network(), slice(rank, None, 4), {"depth": 3}
        ),
        "hybrid": trained(
            fully_shard(network(), mesh=grid),
            network(),
            slice(rank, None, 4),
            {"depth": 3, "momentum": 0.9, "weight_decay": 0.1},
        ),
        "tensor parallel": trained(
            tensor_parallel(grid["tp"]), network(), everything, {"depth": 3, "momentum": 0.9}
        ),
        "fully_shard x tensor parallel": trained(
            fully_shard(tensor_parallel(grid["tp"]), mesh=grid["dp"]),
            network(),
            half,
            {"depth": 3, "momentum": 0.9, "weight_decay": 0.1},
        ),
        "replicated, rows": trained(
            DistributedDataParallel(network()),
            network(),
            slice(rank, None, 4),
            {"depth": 3, "structure": "rows", "imbalance": 0.1, "step_scale": "unit"},
        ),
        "replicated, unequal": trained(
            DistributedDataParallel(network()),
            network(),
            slice(rank, None, 4),
            {"depth": 2.5, "imbalance": 0.1, "momentum": 0.9},
        ),
        "fully_shard, diagonal": trained(
            fully_shard(network(), mesh=flat),
            network(),
            slice(rank, None, 4),
            {"depth": 3, "structure": "diagonal", "imbalance": 0.1, "step_scale": "unit"},
        ),
        "hybrid, circulant": trained(
            fully_shard(network(), mesh=grid),
            network(),
            slice(rank, None, 4),
            {"depth": 3, "structure": "circulant", "imbalance": 0.1, "momentum": 0.9},
        ),
    }


def measure(rank: int, folder: Path) -> dict[str, Any]:
    meshes = {
        FLAT: init_device_mesh("cpu", FLAT),
        GRID: init_device_mesh("cpu", GRID, mesh_dim_names=("dp", "tp")),
    }
    places = {name: Place(meshes[mesh], cut) for name, (mesh, cut, _) in PLACES.items()}
    both = fully_shard(tensor_parallel(meshes[GRID]["tp"]), mesh=meshes[GRID]["dp"])
    return {
        "errors": {
            # what a scheme sends does not depend on the depth, which test_two_processes varies
            name: errors_at(place, PLACES[name][2], ("momentum", "unit"), depths=[3])
            for name, place in places.items()
        },
        "structured": {name: structured(places[name], depths=(3,)) for name in STRUCTURED},
        "very unequal": {name: very_unequal(places[name]) for name in VERY_UNEQUAL},
        "models": trained_models(rank, meshes[FLAT], meshes[GRID]),
        "traffic": {
            "gram": traffic(places["rows"], [(41, 3), (50, 4)]),
            "gram, copies": traffic(places["copies of rows"], [(41, 3), (50, 4)]),
            "gram, rows twice": traffic(places["rows, twice"], [(41, 3), (50, 4)]),
            "gather, blocks": traffic(places["blocks"], [(8, 6), (4, 4)]),
            "owner": traffic(places["rows"], [(8, 8)] * 8),
        },
        "refused": refused_on_grids(places["rows"], places["copies of rows"]),
        "by number": {
            count: traffic(places["rows"], [(8, 8)] * count)["schemes"] for count in (1, 3)
        },
        "routing": {
            route.parameter.split(",")[0]: route.scheme
            for route in routing(EndToEndSGD(both.named_parameters(), lr=0.1))
        },
    }
