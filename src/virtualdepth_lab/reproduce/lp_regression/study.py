"""Every method on one regression, from one start: a row and a curve each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from virtualdepth.maths import gaussian_start
from virtualdepth_lab.reproduce.lp_regression.methods import (
    ExplicitRuns,
    Method,
    NormalisedRuns,
    RuleRuns,
    TorchRuns,
)
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.lp_regression.rivals import barzilai_borwein, hits, lbfgs
from virtualdepth_lab.reproduce.lp_regression.training import (
    LOSSES,
    Run,
    begin,
    best_rates,
    checkpoints,
    train,
)
from virtualdepth_lab.reproduce.result import Progress, Record
from virtualdepth_lab.reproduce.search import at_edge, best_of, quarter_decade

RATIOS = (5.0, 4.0, 3.0, 2.0, 1.1)
START_SCALE = 1e-2
NEAR_ZERO, IDENTITY = STARTS = ("near zero", "identity")

# methods with a learning rate, and the middle of the first grid of five, by the power p
WITH_RATE: dict[str, tuple[Method, dict[int, int]]] = {
    "depth 1 (SGD)": (partial(RuleRuns, depth=1), {2: -7, 4: -10}),
    "depth 1.5": (partial(RuleRuns, depth=1.5), {2: -6, 4: -8}),
    "depth 2": (partial(RuleRuns, depth=2), {2: -6, 4: -8}),
    "depth 3": (partial(RuleRuns, depth=3), {2: -6, 4: -8}),
    "depth 4": (partial(RuleRuns, depth=4), {2: -6, 4: -8}),
    "depth 8": (partial(RuleRuns, depth=8), {2: -6, 4: -8}),
    "explicit network, depth 2": (partial(ExplicitRuns, depth=2), {2: -6, 4: -8}),
    "explicit network, depth 3": (partial(ExplicitRuns, depth=3), {2: -6, 4: -8}),
    "depth 1, scalar normaliser": (NormalisedRuns, {2: -9, 4: -8}),
    "depth 2, gain divided out": (partial(RuleRuns, depth=2, without_gain=True), {2: -6, 4: -9}),
    "depth 1, gain of depth 2": (partial(RuleRuns, depth=2, only_gain=True), {2: -6, 4: -8}),
    "Adam": (partial(TorchRuns, optimizer=torch.optim.Adam), {2: -7, 4: -8}),
    "AdaGrad": (partial(TorchRuns, optimizer=torch.optim.Adagrad), {2: -6, 4: -6}),
    "AdaDelta": (partial(TorchRuns, optimizer=torch.optim.Adadelta), {2: -5, 4: -2}),
}
# methods that choose their own step
OWN_STEP: dict[str, Callable[[LpRegression, Tensor, int], list[float]]] = {
    "depth 1, Barzilai-Borwein": barzilai_borwein,
    "depth 1, long Barzilai-Borwein": partial(barzilai_borwein, long=True),
    "L-BFGS": lbfgs,
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A regression, its smallest loss, how many iterations to take, and whom to tell."""

    problem: LpRegression
    optimum: float
    steps: int
    progress: Progress

    @property
    def targets(self) -> list[float]:
        """The losses to time."""
        return [ratio * self.optimum for ratio in RATIOS]

    def rows(self, start: str, seeds: Sequence[int]) -> Iterator[tuple[Record, Tensor]]:
        """Yield a row and a curve of the loss over the optimum, (checkpoints,), for each method."""
        first, *others = [self._start(start, seed) for seed in seeds]
        yield from self._rows_with_rate(first, others if start == NEAR_ZERO else [])
        shown = checkpoints(self.steps)
        for name, method in OWN_STEP.items():
            self.progress(name)
            losses = method(self.problem, first, self.steps)
            curve = [losses[min(count, len(losses) - 1)] / self.optimum for count in shown]
            counts = list(hits(losses, self.targets))
            yield self._row(name, min(losses), counts), torch.tensor(curve, dtype=torch.float64)

    def _rows_with_rate(
        self, first: Tensor, others: Sequence[Tensor]
    ) -> Iterator[tuple[Record, Tensor]]:
        power = self.problem.power
        methods = {
            name: (method, range(middle[power] - 2, middle[power] + 3))
            for name, (method, middle) in WITH_RATE.items()
        }
        found = best_rates(self.problem, first, methods, self.steps, self.targets, self.progress)
        rates = {name: [best_of(runs, loss) for loss in LOSSES] for name, runs in found.items()}
        further = self._further({name: best for name, (best, _) in rates.items()}, others)
        for name, runs in found.items():
            best, last = rates[name]  # by the smallest loss along the way, and by the last one
            reached = [
                min((count for count in counts if count is not None), default=None)
                for counts in zip(*(run.hits for run in runs.values()), strict=True)
            ]
            row = self._row(name, runs[best].best, reached)
            row |= {"rate": quarter_decade(best), "inside": not at_edge(runs, LOSSES)}
            row |= {"end_over_optimum": runs[last].end / self.optimum}
            row |= {"end_rate": quarter_decade(last)}
            ends = [row["loss_over_optimum"], *further[name]]
            row |= {"seeds_from": min(ends), "seeds_to": max(ends)}
            yield row, runs[last].curve / self.optimum

    def _start(self, start: str, seed: int) -> Tensor:
        """Return w, (1, n)."""
        weight = torch.zeros(1, self.problem.inputs.shape[1], dtype=torch.float64)
        if start == IDENTITY:  # a rectangular identity: the first unit vector
            weight[0, 0] = 1
            return weight
        return gaussian_start(weight, START_SCALE, torch.Generator().manual_seed(seed))

    def _row(self, name: str, best: float, counts: Sequence[int | None]) -> Record:
        columns = {f"to_{ratio:g}": count for ratio, count in zip(RATIOS, counts, strict=True)}
        return {"method": name, "loss_over_optimum": best / self.optimum} | columns

    def _further(
        self, exponents: Mapping[str, int], starts: Sequence[Tensor]
    ) -> dict[str, list[float]]:
        """Return each method's losses over the optimum from further starts, at a given rate."""
        names = list(exponents)
        if not starts:
            return {name: [] for name in names}
        started = [
            begin(WITH_RATE[name][0], start, [quarter_decade(exponents[name])])
            for start in starts
            for name in names
        ]

        def tell(iteration: int) -> None:
            self.progress(f"further starts, iteration {iteration}")

        ends: list[list[Run]] = train(self.problem, started, self.steps, self.targets, tell)
        ratios = [run.best / self.optimum for [run] in ends]
        return {name: ratios[index :: len(names)] for index, name in enumerate(names)}
