"""Steps of matrices that lie on several processes, against the same steps on one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from benchmarks.traffic import Traffic
from tests.maths.matrices import gaussian, with_spectrum
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Shard, distribute_tensor

from virtualdepth.maths import STRUCTURES
from virtualdepth.optim import EndToEndSGD, routing

# tall and wide, uneven (odd sides), with empty parts (1 on a side) and parts of a single row or
# column (3 x 2), long (gram) and square
SHAPES = ((6, 6), (9, 4), (41, 3), (3, 41), (1, 7), (3, 2), (2, 3))
DEPTHS = (1.5, 3, math.inf)
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {},
    "momentum": {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True, "maximize": True},
    "unit": {"step_scale": "unit", "weight_decay": 0.01},
}


@dataclass
class Place:
    """A mesh, and how matrices are cut over it."""

    mesh: DeviceMesh
    placements: Sequence[Placement]

    def deal(self, tensor: Tensor) -> DTensor:
        # a copy: the parts may share its memory; all processes have it, none has to send it
        return distribute_tensor(tensor.clone(), self.mesh, self.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def error(result: Tensor, truth: Tensor) -> float:
    result, truth = result.double(), truth.double()
    return ((result - truth).norm() / truth.norm()).item()


def well_conditioned(shape: tuple[int, int]) -> Tensor:
    return with_spectrum(shape, torch.linspace(1, 0.3, min(shape), dtype=torch.float64))


def deficient(shape: tuple[int, int]) -> Tensor:
    """Of rank 1, exactly: small integers."""
    rows, columns = (torch.arange(1, size + 1, dtype=torch.float64) for size in shape)
    return torch.outer(rows, columns)


def after_steps(
    place: Place,
    weights: Sequence[Tensor],
    *,
    depths: Sequence[float] = DEPTHS,
    steps: int = 3,
    dtype: torch.dtype = torch.float64,
    scheme: str = "auto",
    **options: Any,
) -> float:
    """The largest relative error, of weights and momenta, after some steps at every depth."""
    wholes = [[nn.Parameter(weight.to(dtype, copy=True)) for weight in weights] for _ in depths]
    parts = [[nn.Parameter(place.deal(p.detach())) for p in each] for each in wholes]
    alone, sharded = (
        EndToEndSGD(
            [{"params": ps, "depth": depth} for ps, depth in zip(each, depths, strict=True)],
            lr=0.01,
            **options,
        )
        for each in (wholes, parts)
    )
    for group in (*alone.param_groups, *sharded.param_groups):
        group["scheme"] = scheme
    pairs = [pair for each in zip(wholes, parts, strict=True) for pair in zip(*each, strict=True)]
    for step in range(steps):
        for index, (p, part) in enumerate(pairs):
            p.grad = gaussian(*p.shape, seed=100 * step + index).to(dtype)
            part.grad = place.deal(p.grad)
        alone.step()
        sharded.step()
    errors = [error(whole(part), p.detach()) for p, part in pairs]
    for p, part in pairs if "momentum" in options else ():
        kept = sharded.state[part]["momentum_buffer"]
        assert kept.placements == part.placements
        errors.append(error(whole(kept), alone.state[p]["momentum_buffer"]))
    return max(errors)


def errors_at(
    place: Place,
    schemes: Sequence[str],
    names: Sequence[str] = tuple(OPTIONS),
    depths: Sequence[float] = DEPTHS,
) -> dict[str, float]:
    """Over options by the plan's own choice, and over the schemes for one, at ``depths``."""
    weights = [well_conditioned(shape) for shape in SHAPES]
    singular = [deficient(shape) for shape in ((6, 6), (9, 4), (41, 3), (3, 41))]
    return {
        **{name: after_steps(place, weights, **OPTIONS[name]) for name in names},
        **{
            scheme: after_steps(place, weights, depths=depths, scheme=scheme, **OPTIONS["momentum"])
            for scheme in schemes
        },
        "rank 1": after_steps(place, singular, steps=1, depths=depths, scheme=schemes[0]),
    }


def structured(place: Place, depths: Sequence[float] = (1.5, 3)) -> dict[str, float]:
    """Blocks of every structure, and unequal layers, by the plan's own choice."""
    weights = [well_conditioned(shape) for shape in SHAPES]
    unequal: dict[str, Any] = {"depths": depths, "imbalance": 0.1, "momentum": 0.9}
    return {
        f"{structure}, {scale}": after_steps(
            place, weights, structure=structure, step_scale=scale, **unequal
        )
        for structure, scale in product(STRUCTURES, ("raw", "unit"))
    }


def very_unequal(place: Place) -> dict[str, float]:
    """Sums of squares are in range where the layers, or powers of them, are not."""
    weights = [well_conditioned((41, 3)), well_conditioned((3, 41))]
    return {
        f"{depth}, {imbalance:g}": after_steps(
            place, weights, depths=[depth], steps=1, imbalance=imbalance
        )
        for depth, imbalance in ((3, 1e-12), (3, 1e12), (50, 1e6))
    }


def kernels(mesh: DeviceMesh, scheme: str) -> float:
    """Convolutions, transposed or not, cut along any of their dimensions, one of them empty."""
    errors = []
    for shape, dim, transposed in product(((5, 3, 2), (5, 3, 1)), range(3), (False, True)):
        place, weight, grad = Place(mesh, [Shard(dim)]), gaussian(*shape), gaussian(*shape, seed=1)
        alone, part = nn.Parameter(weight.clone()), nn.Parameter(place.deal(weight))
        alone.grad, part.grad = grad, place.deal(grad)
        for p in (alone, part):
            group = {"params": [p], "transposed": transposed, "scheme": scheme}
            EndToEndSGD([group], lr=0.1, depth=3).step()
        errors.append(error(whole(part.detach()), alone.detach()))
    return max(errors)


def beyond_range(place: Place, scheme: str) -> float:
    """An update that float16 cannot hold, and a learning rate that brings it back."""
    weight, grad = 300 * torch.eye(6).half(), (300 * torch.ones(6, 6)).half()
    alone, part = nn.Parameter(weight.clone()), nn.Parameter(place.deal(weight))
    alone.grad, part.grad = grad, place.deal(grad)
    for p, group in ((alone, {}), (part, {"scheme": scheme})):
        EndToEndSGD([{"params": [p], **group}], lr=1e-5, depth=2).step()
    return error(whole(part.detach()), alone.detach())


def traffic(
    place: Place,
    shapes: Sequence[tuple[int, int]],
    weights: Callable[[tuple[int, int]], Tensor] = well_conditioned,
    **options: Any,
) -> dict[str, Any]:
    """Collectives of the second step, as the first also compares parameters, beside the plan."""
    parts = [nn.Parameter(place.deal(weights(shape))) for shape in shapes]
    optimizer = EndToEndSGD([{"params": parts, "depth": 3, **options}], lr=0.01)
    for part in parts:
        part.grad = place.deal(gaussian(*part.shape))
    optimizer.step()
    with Traffic() as seen:
        optimizer.step()
    routes = list(routing(optimizer))
    return {
        "counts": dict(seen.counts),
        "sent": seen.sent,
        "planned": sum(route.step_bytes for route in routes),
        "schemes": [route.scheme for route in routes],
    }


def trained(model: nn.Module, alone: nn.Module, rows: slice, options: Mapping[str, Any]) -> float:
    """A share of a batch here, against the whole batch on a process of its own."""
    x, y = gaussian(8, 6), gaussian(8, 3)
    for net, share in ((alone, slice(None)), (model, rows)):
        optimizer = EndToEndSGD(net.parameters(), lr=0.01, **options)
        for _ in range(4):
            optimizer.zero_grad()
            (net(x[share]) - y[share]).square().mean().backward()
            optimizer.step()
    pairs = zip(model.parameters(), alone.parameters(), strict=True)
    return max(error(whole(p), q.detach()) for p, q in pairs)
