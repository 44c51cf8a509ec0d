"""(b) What does a whole training step cost: one layer with depth, or the explicit network?

Least squares, d inputs and d outputs, one fixed batch; forward, backward, optimizer step. The rival
is N square layers under torch.optim.SGD. Break-even is the batch from which one layer is faster, by
straight lines through both measured times; the formula B* = c d / (3 (N - 1)) says where it should
be, with c the measured products of the optimizer's step. Peak memory: parameters and state, and the
most that a step holds beyond them (gradients, activations, work).
"""

import argparse
from functools import partial
from statistics import LinearRegression, linear_regression, median

import torch
from common import Row
from speed_common import (
    PRODUCT,
    Job,
    alone,
    interleaved,
    peak_bytes,
    product,
    seconds,
    solvers_at,
    state_bytes,
)
from torch import nn
from torch.nn.functional import mse_loss

import virtualdepth as vd

EXPLICIT = "explicit network"
DEPTHS = (2, 3, 4, 8)


class Training:
    """A model and its optimizer on one batch; each call times a training step."""

    def __init__(self, solver: str, size: int, depth: int, batch: int, device: str) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(size, size, bias=False).to(device)
        if solver == EXPLICIT:
            self.model: nn.Module = vd.DeepLinear.from_weight(layer.weight.detach(), depth)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        else:
            self.model = layer
            self.optimizer = vd.EndToEndSGD(layer.parameters(), 1e-3, depth=depth, solver=solver)
        self.inputs, self.targets = torch.randn(2, batch, size, device=device)
        self.device, self.steps = device, list[float]()

    def step(self) -> None:
        self.optimizer.zero_grad()
        mse_loss(self.model(self.inputs), self.targets).backward()
        self.steps.append(seconds(self.optimizer.step, self.device))

    def __call__(self) -> float:
        return seconds(self.step, self.device)

    def peak(self) -> int:
        self.optimizer.zero_grad()
        resident = sum(p.nbytes for p in self.model.parameters()) + state_bytes(self.optimizer)
        return resident + peak_bytes(self.step, self.device)


def measure(size: int, depth: int, ratio: int, device: str, budget: float) -> list[Row]:
    runs = {
        name: Training(name, size, depth, ratio * size, device)
        for name in (EXPLICIT, *solvers_at(depth))
    }
    times = interleaved(product((size, size), device), dict(runs), budget)
    unit = median(times.pop(PRODUCT))
    return [
        {
            "d": size,
            "depth": depth,
            "batch / d": ratio,
            "model": name,
            "products": median(own) / unit,
            "step alone": median(runs[name].steps[2:]) / unit,
            "of the explicit network": median(own) / median(times[EXPLICIT]),
            "samples": len(own),
            "peak, d x d": runs[name].peak() / (4 * size * size),
        }
        for name, own in times.items()
    ]


def line(rows: list[Row]) -> LinearRegression:
    """Least squares of products over batch / d."""
    return linear_regression([r["batch / d"] for r in rows], [r["products"] for r in rows])


def break_even(rows: list[Row]) -> list[Row]:
    """One row per size, depth and solver."""
    groups: dict[tuple[int, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["d"], row["depth"], row["model"]), []).append(row)
    found = []
    for (size, depth, model), own in groups.items():
        if model != EXPLICIT:
            one, network = line(own), line(groups[size, depth, EXPLICIT])
            cost = median(row["step alone"] for row in own)
            crossing = (one.intercept - network.intercept) / (network.slope - one.slope)
            found.append(
                {
                    "d": size,
                    "depth": depth,
                    "solver": model,
                    "step, products": cost,
                    "break-even / d, measured": max(crossing, 0.0),
                    "by the formula": cost / (3 * (depth - 1)),
                    "of the explicit network at the largest batch": own[-1][
                        "of the explicit network"
                    ],
                    "peak memory of it": own[-1]["peak, d x d"]
                    / groups[size, depth, EXPLICIT][-1]["peak, d x d"],
                }
            )
    return found


def jobs(options: argparse.Namespace) -> list[Job]:
    budget = 0.2
    cases = [(256, r, DEPTHS) for r in (1, 2, 4, 8, 16)] + [(512, r, (3,)) for r in (1, 4, 16)]
    if options.device == "cuda":
        cases = [(size, r, DEPTHS) for size in (1024, 2048, 4096) for r in (1, 4, 16)]
    if options.quick:
        budget, cases = 0.02, [(64, 1, (2, 3)), (64, 4, (2, 3))]
    return [
        partial(measure, size, depth, ratio, options.device, budget * size / 256)
        for size, ratio, depths in cases
        for depth in depths
    ]


if __name__ == "__main__":
    alone(__doc__, jobs)
