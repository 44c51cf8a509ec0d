"""What each of four processes meets when one of them fails, for `test_faults.py`."""

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tests.distributed.equality import Place, well_conditioned
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from virtualdepth.optim import EndToEndSGD, routing

PROCESSES, FAULTY = 4, 3
SHAPES = {"long": (41, 3), "square": (6, 6), "other": (8, 8), "gathered": (5, 4), "plain": (3, 3)}

Spoil = Callable[[dict[str, nn.Parameter]], Any]


def local(tensor: Any) -> Tensor:
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part


def huge(p: nn.Parameter) -> None:
    """A finite gradient of which P is not: along W, which P_W doubles or more."""
    part = local(p.detach())
    local(p.grad).copy_(part / part.abs().max() * 1.7e308)


def everywhere(spoil: Spoil) -> Spoil:
    spoil.everywhere = True  # type: ignore[attr-defined]
    return spoil


FAULTS: dict[str, Spoil] = {
    "NaN, gram": lambda ps: local(ps["long"].grad).fill_(math.nan),
    "Inf, owner": lambda ps: local(ps["square"].grad)[0].fill_(math.inf),
    "NaN, gather": lambda ps: local(ps["gathered"].grad)[0, 1:].fill_(math.nan),
    "NaN, not sharded": lambda ps: ps["plain"].grad.fill_(math.nan),
    "Inf in a weight": lambda ps: local(ps["other"].data)[0].fill_(math.inf),
    "update overflows, gram": lambda ps: huge(ps["long"]),
    "update overflows, owner": lambda ps: huge(ps["square"]),
    "exception": lambda ps: setattr(ps["plain"], "grad", ps["plain"].grad.to_sparse()),
    "no gradient": lambda ps: setattr(ps["long"], "grad", None),
    "no gradient anywhere": everywhere(lambda ps: setattr(ps["long"], "grad", None)),
}


class Trial:
    """An optimizer of sharded parameters of every scheme, and one that is not sharded."""

    def __init__(self, place: Place, names: Sequence[str] = tuple(SHAPES)) -> None:
        self.place = place
        weights = {name: well_conditioned(SHAPES[name]) for name in names}
        self.params = {
            name: nn.Parameter(weight if name == "plain" else place.deal(weight))
            for name, weight in weights.items()
        }
        self.optimizer = EndToEndSGD(
            [
                {"params": [(name, p)], "scheme": "gather" if name == "gathered" else "auto"}
                for name, p in self.params.items()
            ],
            lr=0.1,
            depth=3,
            momentum=0.9,
        )

    def backward(self) -> None:
        for name, p in self.params.items():
            grad = gaussian(*p.shape)
            p.grad = grad if name == "plain" else self.place.deal(grad)

    def everything(self) -> list[Tensor]:
        """This process's parts of weights and momenta, and the counts of steps."""
        states = [self.optimizer.state[p] for p in self.params.values()]
        parts = [*self.params.values(), *(state["momentum_buffer"] for state in states)]
        counts = [torch.tensor(state["step"]) for state in states]
        return [*(local(each.detach()).clone() for each in parts), *counts]


def attempt(step: Callable[[], Any]) -> dict[str, Any]:
    message = "none"
    try:
        step()
    except Exception as problem:
        message = f"{type(problem).__name__}: {problem}"
    return {"message": message}


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(ours, theirs, strict=True)
    )


def fault(
    rank: int, place: Place, spoil: Spoil, names: Sequence[str] = tuple(SHAPES)
) -> dict[str, Any]:
    """Spoil something, step, and report the error and what changed."""
    trial = Trial(place, names)
    trial.backward()
    trial.optimizer.step()
    trial.backward()
    weights = [p.detach().clone() for p in trial.params.values()]
    if rank == FAULTY or hasattr(spoil, "everywhere"):
        spoil(trial.params)
    before = trial.everything()
    found = attempt(trial.optimizer.step)
    found["same"] = same(trial.everything(), before)
    with torch.no_grad():
        for p, weight in zip(trial.params.values(), weights, strict=True):
            p.copy_(weight)
    trial.backward()
    trial.optimizer.step()  # nobody was left behind
    found["goes on"] = not any(map(torch.equal, trial.everything(), before))
    return found


def different(rank: int, place: Place, more: bool) -> dict[str, Any]:
    """Other shapes, or one parameter more, on the faulty process."""
    shapes = [(5, 4), (4, 3 + (rank == FAULTY and not more))] + [(2, 2)] * (rank == FAULTY and more)
    parts = [(f"w{i}", nn.Parameter(place.deal(torch.ones(s)))) for i, s in enumerate(shapes)]
    return attempt(EndToEndSGD(parts, lr=0.1).step)


def other_option(rank: int, place: Place) -> dict[str, Any]:
    """A cut of its own on the faulty process, which alone would then gather."""
    weight = nn.Parameter(place.deal(well_conditioned((41, 3))))
    optimizer = EndToEndSGD([("w", weight)], lr=0.1, rtol=0.1 if rank == FAULTY else None)
    return attempt(optimizer.step)


# what the faulty process, or every process, changes of its group after the first step
LATER: dict[str, dict[str, Any]] = {
    "rate": {"lr": 0.2},
    "momentum": {"momentum": 0.5},
    "depth": {"depth": 2},
    "plain": {"depth": 1},
    "out of range": {"depth": 0.5},
    "scheme": {"scheme": "gather"},
    "rtol": {"rtol": 0.1},
}


def changed(
    rank: int, place: Place, options: dict[str, Any], alike: bool, **before_that: Any
) -> dict[str, Any]:
    """Change options between two steps, on the faulty process alone or on all."""
    trial = Trial(place, ["long"])
    trial.optimizer.param_groups[0].update(before_that)
    trial.backward()
    trial.optimizer.step()
    if alike or rank == FAULTY:
        trial.optimizer.param_groups[0].update(options)
    before = trial.everything()
    found = attempt(trial.optimizer.step)
    return {**found, "same": same(trial.everything(), before)}


def overflowing(place: Place, name: str) -> dict[str, Any]:
    """A finite update, and a rate that takes the new weight out of the range of its dtype."""
    trial = Trial(place, [name])
    trial.optimizer.param_groups[0]["lr"] = 1.7e308
    trial.backward()
    before = [local(p.detach()).clone() for p in trial.params.values()]
    found = attempt(trial.optimizer.step)
    return {**found, "same": same([local(p.detach()) for p in trial.params.values()], before)}


def killed(rank: int, place: Place) -> dict[str, Any]:
    """One process dies while the others wait for it."""
    trial = Trial(place)
    trial.backward()
    before = trial.everything()
    if rank == FAULTY:
        os.kill(os.getpid(), signal.SIGKILL)
    return {**attempt(trial.optimizer.step), "same": same(trial.everything(), before)}


def measure(rank: int, folder: Path) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2, 2))
    place = Place(mesh, [Replicate(), Shard(0)])
    schemes = {route.parameter: route.scheme for route in routing(Trial(place).optimizer)}
    return {
        "schemes": schemes,
        "faults": {
            **{name: fault(rank, place, spoil) for name, spoil in FAULTS.items()},
            # the other copy of the shards sees nothing of it in its own sums
            "update overflows in one copy": fault(
                rank, place, lambda ps: huge(ps["long"]), ["long"]
            ),
        },
        "other shape": different(rank, place, more=False),
        "one more": different(rank, place, more=True),
        "other option": other_option(rank, place),
        "changed": {name: changed(rank, place, each, False) for name, each in LATER.items()},
        "changed alike": {name: changed(rank, place, each, True) for name, each in LATER.items()},
        "deepened": changed(rank, place, {"depth": 3}, False, depth=1),
        "deepened alike": changed(rank, place, {"depth": 3}, True, depth=1),
        "overflowing": {name: overflowing(place, name) for name in SHAPES},
        "killed": killed(rank, place),  # the last: the process group does not survive it
    }
