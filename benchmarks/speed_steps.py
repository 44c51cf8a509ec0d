"""(a) What does one optimizer step cost, and what does it cost elsewhere?

One matrix from torch's default start, G = W - W*, learning rate 1e-3
(with momentum 0.9 a tenth of it: steps of the same length); the step alone is timed.
Ours at depth 3, or 2 where a solver takes no other; "svd, 10" decomposes at every tenth step, so
that its sample is the mean of ten. Rivals with their defaults: SOAP refreshes its
bases at every tenth step, so that its sample is the mean of ten; Shampoo takes two SVDs a step;
ScalableShampoo takes new roots at every thousandth, and none is in here. torch's Muon works in
bfloat16, which takes seconds on a processor without instructions for it: on CPUs it is left out of
the larger shapes, and its step with products in float32 stands beside it.
"""

import argparse
from functools import partial
from itertools import product as pairs
from statistics import median

import torch
from common import Row
from pytorch_optimizer import SOAP, ScalableShampoo, Shampoo
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
from speed_common import (
    PRODUCT,
    Job,
    Make,
    alone,
    counts,
    interleaved,
    product,
    seconds,
    solvers_at,
    spread,
    state_bytes,
)
from torch import Tensor

import virtualdepth as vd

SQUARE = (64, 128, 256, 512, 1024, 2048)
LONG = ((256, 64), (1024, 256), (2048, 512), (2048, 32), (4096, 64), (64, 4096))
MUON_ON_CPU = 512**3  # multiplications of a product, at most
WITH_MOMENTUM = 1024  # ours; larger ones take too long for a figure that is close to the other
FREQUENCIES = (10, 30)  # of decompositions
LARGEST = {"SOAP": 2048, "Shampoo": 2048}  # side of which a square matrix is decomposed


class MuonInFloat32(torch.optim.Optimizer):
    """torch's Muon, but for the precision of its products."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(mean, group["momentum"])
                update = zero_power_via_newton_schulz_5(update, dtype=torch.float32)
                p.mul_(1 - group["lr"] * 0.1).add_(update, alpha=-group["lr"])


RIVALS: dict[str, tuple[Make, int]] = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=1e-2), 1),
    "SGD, momentum": (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9), 1),
    "AdamW": (lambda p: torch.optim.AdamW(p, lr=1e-3), 1),
    "Muon": (lambda p: torch.optim.Muon(p, lr=1e-3), 1),
    "Muon, in float32": (lambda p: MuonInFloat32(p, lr=1e-3), 1),
    "SOAP": (lambda p: SOAP(p, lr=1e-3), 10),
    "Shampoo": (lambda p: Shampoo(p, lr=1e-3), 1),
    "ScalableShampoo": (lambda p: ScalableShampoo(p, lr=1e-3), 1),
}


class Stepper:
    """A matrix and its optimizer; each call makes a gradient and times the step."""

    def __init__(self, make: Make, shape: tuple[int, int], device: str, period: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)
        start, target = (torch.rand(2, *shape, generator=generator) * 2 - 1) / shape[1] ** 0.5
        self.weight = torch.nn.Parameter(start.to(device))
        self.target, self.device, self.period = target.to(device), device, period
        self.optimizer = make([self.weight])
        self.steps: list[tuple[float, bool]] = []  # seconds, and whether the step was quiet

    def once(self) -> float:
        self.weight.grad = self.weight.detach() - self.target
        before = counts(self.optimizer)
        took = seconds(self.optimizer.step, self.device)
        self.steps.append((took, counts(self.optimizer) == before))
        return took

    def warm(self) -> float:
        return self.period * self.once()

    def __call__(self) -> float:
        return sum(self.once() for _ in range(self.period)) / self.period


def ours(solver: str, depth: float, lr: float = 1e-3, momentum: float = 0.0) -> Make:
    """As far a step with momentum as without: its rate is smaller by 1 - momentum."""
    rate = lr * (1 - momentum)
    return lambda p: vd.EndToEndSGD(p, rate, depth=depth, solver=solver, momentum=momentum)


def kept(frequency: int) -> Make:
    """The exact solver, whose step acts in the last singular basis between decompositions."""
    return lambda p: vd.EndToEndSGD(p, 1e-3, depth=3, precondition_frequency=frequency)


def own_contenders(depths: tuple[float, ...] = (3, 2)) -> dict[str, Make]:
    """Every solver at the first depth that it takes, without and with momentum."""
    made: dict[str, Make] = {}
    for depth, momentum in pairs(depths, (0.0, 0.9)):
        for solver in solvers_at(depth):
            name = f"{solver}{', momentum' * bool(momentum)}"
            made.setdefault(name, ours(solver, depth, momentum=momentum))
    return made


def auto_takes(shape: tuple[int, int], device: str) -> str:
    weight = torch.nn.Parameter(torch.empty(shape, device=device))
    return ", ".join(
        f"{route.solver} (N = {depth:g})"
        for depth in (2, 3)
        for route in vd.routing(vd.EndToEndSGD([weight], depth=depth))
    )


def rivals(shape: tuple[int, int], device: str) -> dict[str, Stepper]:
    slow = min(shape) * shape[0] * shape[1] > MUON_ON_CPU and device == "cpu"
    return {
        name: Stepper(make, shape, device, period)
        for name, (make, period) in RIVALS.items()
        if max(shape) <= LARGEST.get(name, 8192) and not (name == "Muon" and slow)
    }


def measure(
    shape: tuple[int, int], device: str, budget: float, *, with_rivals: bool = True
) -> list[Row]:
    steppers = {
        name: Stepper(make, shape, device)
        for name, make in own_contenders().items()
        if min(shape) <= WITH_MOMENTUM or "momentum" not in name
    }
    if with_rivals:
        steppers |= {f"svd, {f}": Stepper(kept(f), shape, device, period=f) for f in FREQUENCIES}
        steppers |= rivals(shape, device)
    times = interleaved(product(shape, device), dict(steppers), budget)
    unit = median(times.pop(PRODUCT))
    rows = []
    for name, stepper in steppers.items():
        own, group = times[name], stepper.optimizer.param_groups[0]
        quiet = (
            [took for took, easy in stepper.steps[-len(own) :] if easy]
            if stepper.period == 1
            else own
        )
        rows.append(
            {
                "shape": f"{shape[0]} x {shape[1]}",
                "optimizer": name,
                "depth": group.get("depth"),
                "products": median(own) / unit,
                "quiet step": median(quiet) / unit if quiet else None,
                "middle half": spread([value / unit for value in own]),
                "ms": 1e3 * median(own),
                "product, ms": 1e3 * unit,
                "samples": len(own),
                "not quiet": len(own) * stepper.period - len(quiet) * stepper.period,
                "state matrices": state_bytes(stepper.optimizer) / stepper.weight.nbytes,
                "auto takes": auto_takes(shape, device),
            }
        )
    return rows


def jobs(options: argparse.Namespace) -> list[Job]:
    sizes = (1024, 2048, 4096, 8192) if options.device == "cuda" else SQUARE
    shapes = [(size, size) for size in sizes] + list(LONG)
    if options.quick:
        shapes = [(64, 64), (128, 128), (256, 64), (64, 512)]
    return [
        partial(measure, shape, options.device, 0.02 if options.quick else min(shape) / 1000)
        for shape in shapes
    ]


if __name__ == "__main__":
    alone(__doc__, jobs)
