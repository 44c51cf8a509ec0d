"""Run several methods side by side, and search the best constant learning rate of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor

from virtualdepth_lab.reproduce import search
from virtualdepth_lab.reproduce.lp_regression.methods import Method, Runs
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.result import Progress

# a grid grows by a decade, at most six times
GROWTH, MOST_TIMES = search.PER_DECADE, 6


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run did.

    Attributes:
        best: the smallest loss along the way; inf if no loss was finite.
        hits: iterations until the loss was at most each target; None: never.
        curve: losses at the checkpoints, (checkpoints,).
    """

    best: float
    hits: list[int | None]
    curve: Tensor

    @property
    def end(self) -> float:
        """The loss after the last iteration; inf for NaN."""
        end = float(self.curve[-1])
        return math.inf if math.isnan(end) else end


# two measures of a run, so two best rates: a run may diverge after its smallest loss
LOSSES = (attrgetter("best"), attrgetter("end"))


def checkpoints(steps: int) -> list[int]:
    """List the iterations that curves show, from 0 to ``steps``: the first ten, then ever fewer.

    >>> checkpoints(3)
    [0, 1, 2, 3]
    """
    count = round(40 * math.log10(max(steps, 2))) + 1
    return sorted({0, *(round(steps ** (k / (count - 1))) for k in range(count))})


def begin(method: Method, start: Tensor, rates: Sequence[float]) -> Runs:
    """Start a run of a method at w, (1, n), for each learning rate."""
    weights = start.expand(len(rates), *start.shape).clone()
    return method(weights, torch.tensor(rates, dtype=torch.float64).view(-1, 1, 1))


def train(
    problem: LpRegression,
    methods: Sequence[Runs],
    steps: int,
    targets: Sequence[float],
    progress: Callable[[int], None],
) -> list[list[Run]]:
    """Run all methods from where they stand, with one evaluation of the loss for all of them.

    ``targets`` are losses to time; ``progress`` is told every thousandth iteration.
    """
    sizes = [len(method.weights) for method in methods]
    levels = torch.tensor(targets, dtype=torch.float64).unsqueeze(-1)
    best = torch.full((sum(sizes),), torch.inf, dtype=torch.float64)
    hits = torch.full((len(targets), sum(sizes)), -1)
    curves, shown = [], set(checkpoints(steps))
    for iteration in range(steps + 1):
        if iteration % 1000 == 0:
            progress(iteration)
        weights = torch.cat([method.weights.detach() for method in methods])
        grads, losses = problem.objective(weights)
        best = torch.fmin(best, losses)  # passes over NaN, after a run diverged
        hits[(hits < 0) & (losses <= levels)] = iteration
        if iteration in shown:
            curves.append(losses)
        if iteration < steps:
            for method, part in zip(methods, torch.split(grads, sizes), strict=True):
                method.step(part)
    columns = iter(zip(best.tolist(), hits.T.tolist(), torch.stack(curves, dim=1), strict=True))
    return [[_run(*next(columns)) for _ in range(size)] for size in sizes]


def _run(best: float, hits: list[int], curve: Tensor) -> Run:
    return Run(best=best, hits=[None if hit < 0 else hit for hit in hits], curve=curve)


def best_rates(
    problem: LpRegression,
    start: Tensor,
    methods: Mapping[str, tuple[Method, range]],
    steps: int,
    targets: Sequence[float],
    progress: Progress,
) -> dict[str, dict[int, Run]]:
    """Run every method, with its first grid of quarter decades, until the best rate is inside.

    Returns the runs by method and exponent.
    """

    def run(grids: Mapping[str, Sequence[int]]) -> dict[str, list[Run]]:
        def tell(iteration: int) -> None:
            progress(f"{len(grids)} methods, iteration {iteration}")

        started = [
            begin(methods[name][0], start, [search.quarter_decade(exponent) for exponent in grid])
            for name, grid in grids.items()
        ]
        return dict(zip(grids, train(problem, started, steps, targets, tell), strict=True))

    grids = {name: grid for name, (_, grid) in methods.items()}
    return search.search(run, grids, LOSSES, by=GROWTH, most=MOST_TIMES)
