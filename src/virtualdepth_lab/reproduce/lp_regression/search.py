"""The best constant learning rate of each method, on a quarter-decade grid that has no edge."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.methods import Method, Runs
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.result import Progress

PER_DECADE = 4
MOST_EXTENSIONS = 6


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What runs of one method did, a column for each learning rate.

    Attributes:
        exponents: eta = 10^(exponent / 4), rising, one apart.
        best: the smallest loss along the way, (runs,); inf where it never was finite.
        hits: iterations until the loss was at most each target, (targets, runs); -1: never.
        curves: losses at the checkpoints, (checkpoints, runs).
    """

    exponents: tuple[int, ...]
    best: Tensor
    hits: Tensor
    curves: Tensor

    @property
    def winner(self) -> int:
        """The column of the smallest loss."""
        return int(self.best.argmin())

    @property
    def ends(self) -> Tensor:
        """The losses after the last iteration, (runs,); inf where not finite."""
        return self.curves[-1].nan_to_num(nan=torch.inf)

    @property
    def steadiest(self) -> int:
        """The column of the smallest loss at the end: of no run that diverges after its best."""
        return int(self.ends.argmin())

    def at_edge(self) -> bool:
        """Tell whether the grid begins or ends with the best learning rate, by either measure.

        Returns:
            Whether it does.
        """
        return not {0, len(self.exponents) - 1}.isdisjoint({self.winner, self.steadiest})

    def iterations(self, target: int) -> int | None:
        """Count iterations to a target, at the learning rate that reaches it first.

        Args:
            target: its row.

        Returns:
            The count; None if no run reached it.
        """
        reached = self.hits[target][self.hits[target] >= 0]
        return int(reached.min()) if len(reached) else None

    def joined(self, other: "Trace") -> "Trace":
        """Put the runs of another trace of the method above or below these.

        Args:
            other: whose exponents begin where these end, or the reverse.

        Returns:
            One trace.
        """
        low, high = sorted((self, other), key=lambda trace: trace.exponents[0])
        return Trace(
            exponents=low.exponents + high.exponents,
            best=torch.cat([low.best, high.best]),
            hits=torch.cat([low.hits, high.hits], dim=1),
            curves=torch.cat([low.curves, high.curves], dim=1),
        )


def rate_of(exponent: int) -> float:
    """Return a learning rate of the grid.

    Args:
        exponent: in quarter decades.

    Returns:
        10^(exponent / 4).

    >>> rate_of(-4)
    0.1
    """
    return float(10 ** (exponent / PER_DECADE))


def checkpoints(steps: int) -> list[int]:
    """List the iterations that curves show: all of the first ten, then ever fewer.

    Args:
        steps: the last.

    Returns:
        Rising, from 0 to ``steps``.

    >>> checkpoints(3)
    [0, 1, 2, 3]
    """
    count = round(40 * math.log10(max(steps, 2))) + 1
    return sorted({0, *(round(steps ** (k / (count - 1))) for k in range(count))})


def descend(
    problem: LpRegression,
    methods: Sequence[Runs],
    steps: int,
    targets: Sequence[float],
    progress: Callable[[int], None],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Run all methods side by side, with one evaluation of the loss for all of them.

    Args:
        problem: to fit.
        methods: at their start.
        steps: iterations.
        targets: losses to time.
        progress: told the iteration, every thousand.

    Returns:
        For each method the smallest losses, hits and curves, as in :class:`Trace`.
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
        best = torch.fmin(best, losses)  # NaN, after a run diverged, is passed over
        hits[(hits < 0) & (losses <= levels)] = iteration
        if iteration in shown:
            curves.append(losses)
        if iteration < steps:
            for method, part in zip(methods, torch.split(grads, sizes), strict=True):
                method.step(part)
    return list(
        zip(
            torch.split(best, sizes),
            torch.split(hits, sizes, dim=1),
            torch.split(torch.stack(curves), sizes, dim=1),
            strict=True,
        )
    )


def search(
    problem: LpRegression,
    start: Tensor,
    methods: Mapping[str, tuple[Method, range]],
    steps: int,
    targets: Sequence[float],
    progress: Progress,
) -> dict[str, Trace]:
    """Run every method over its grid, and widen the grids whose best rate is at an edge.

    Args:
        problem: to fit.
        start: w, (1, n).
        methods: name to method and first grid, exponents in quarter decades.
        steps: iterations.
        targets: losses to time.
        progress: told what begins.

    Returns:
        Name to trace. A grid is widened up to six times; whether the best rate is inside is for the
        caller to judge.
    """
    found: dict[str, Trace] = {}
    pending = {name: exponents for name, (_, exponents) in methods.items()}
    for extension in range(MOST_EXTENSIONS + 1):
        label = f"{len(pending)} methods" + (", wider grid" if extension else "")

        def tell(iteration: int, label: str = label) -> None:
            progress(f"{label}, iteration {iteration}")

        for name, trace in _traces(problem, start, methods, pending, steps, targets, tell).items():
            found[name] = found[name].joined(trace) if name in found else trace
        pending = {name: wider for name, trace in found.items() if (wider := _beyond(trace))}
        if not pending:
            break
    return found


def _beyond(trace: Trace) -> range | None:
    if not trace.at_edge():
        return None
    first, last = trace.exponents[0], trace.exponents[-1]
    # where nothing was finite, both winners are the first column
    below = 0 in (trace.winner, trace.steadiest)
    return range(first - 4, first) if below else range(last + 1, last + 5)


def _traces(
    problem: LpRegression,
    start: Tensor,
    methods: Mapping[str, tuple[Method, range]],
    exponents: Mapping[str, range],
    steps: int,
    targets: Sequence[float],
    progress: Callable[[int], None],
) -> dict[str, Trace]:
    runs = []
    for name, grid in exponents.items():
        rates = torch.tensor([rate_of(exponent) for exponent in grid], dtype=torch.float64)
        runs.append(methods[name][0](start, rates))
    ends = descend(problem, runs, steps, targets, progress)
    return {
        name: Trace(exponents=tuple(grid), best=best, hits=hits, curves=curves)
        for (name, grid), (best, hits, curves) in zip(exponents.items(), ends, strict=True)
    }
