"""Does depth accelerate? l_2 and l_4 regression on one vector, against every other way to step.

Sources: arXiv 1802.06509, sections 5 and 8; the slides of 2019, page 21.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from virtualdepth.maths import gaussian_start
from virtualdepth_lab.reproduce.lp_regression.claims import ethanol_claims, toy_claims
from virtualdepth_lab.reproduce.lp_regression.figures import draw
from virtualdepth_lab.reproduce.lp_regression.methods import (
    Method,
    by_torch,
    explicit,
    normalised,
    rule,
)
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression, ethanol_regression
from virtualdepth_lab.reproduce.lp_regression.rivals import barzilai_borwein, hits, lbfgs
from virtualdepth_lab.reproduce.lp_regression.search import (
    Trace,
    checkpoints,
    descend,
    rate_of,
    search,
)
from virtualdepth_lab.reproduce.lp_regression.toy import toy_rows
from virtualdepth_lab.reproduce.result import (
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

__all__ = ["PUBLISHED", "TITLE", "draw", "run"]

TITLE = (
    "Linear regression by one weight vector as if it were N layers deep, under l_2 and l_4 loss, "
    "full batch, float64: on two samples, and on the ethanol data (2565 x 128, standardised). "
    "Every method is at its best constant learning rate on a quarter-decade grid, widened until "
    "the best is inside. Loss over optimum is the smallest along the way, which a run may leave "
    "again; end over optimum is the smallest that a run of the grid still has at its end; "
    "iterations are those of the rate that reaches the target first."
)
PUBLISHED: list[Record] = [
    {"source": "arXiv 1802.06509, section 8", "statement": "l_2: depth slows training down"},
    {"source": "arXiv 1802.06509, section 8", "statement": "l_4: depth trains much faster"},
    {
        "source": "arXiv 1802.06509, section 8",
        "statement": "l_4: depth surpasses AdaGrad and AdaDelta",
    },
    {
        "source": "arXiv 1802.06509, section 8",
        "statement": "the end-to-end rule moves as the explicit network does",
    },
]
RATIOS = (5.0, 4.0, 3.0, 2.0, 1.1)
START_SCALE = 1e-2
STARTS = ("near zero", "identity")


def _adam(groups: Sequence[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups)


def _adagrad(groups: Sequence[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups)


def _adadelta(groups: Sequence[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(groups)


# method, and where its grid begins to be searched: the middle of five rates, by the power p
BATCHED: dict[str, tuple[Method, dict[int, int]]] = {
    "depth 1 (SGD)": (rule(1), {2: -7, 4: -10}),
    "depth 1.5": (rule(1.5), {2: -6, 4: -8}),
    "depth 2": (rule(2), {2: -6, 4: -8}),
    "depth 3": (rule(3), {2: -6, 4: -8}),
    "depth 4": (rule(4), {2: -6, 4: -8}),
    "depth 8": (rule(8), {2: -6, 4: -8}),
    "explicit network, depth 2": (explicit(2), {2: -6, 4: -8}),
    "explicit network, depth 3": (explicit(3), {2: -6, 4: -8}),
    "depth 1, scalar normaliser": (normalised, {2: -9, 4: -8}),
    "depth 2, gain divided out": (rule(2, without_gain=True), {2: -6, 4: -9}),
    "depth 1, gain of depth 2": (rule(2, only_gain=True), {2: -6, 4: -8}),
    "Adam": (by_torch(_adam), {2: -7, 4: -8}),
    "AdaGrad": (by_torch(_adagrad), {2: -6, 4: -6}),
    "AdaDelta": (by_torch(_adadelta), {2: -5, 4: -2}),
}
SINGLE: dict[str, Callable[[LpRegression, Tensor, int], list[float]]] = {
    "depth 1, Barzilai-Borwein": barzilai_borwein,
    "depth 1, long Barzilai-Borwein": lambda *given: barzilai_borwein(*given, long=True),
    "L-BFGS": lbfgs,
}


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Run the table of two samples, then every method on the ethanol data.

    Args:
        config: seeds of the near-zero starts (the first is that of the search), data_dir, and
            whether to be quick: a fifth of the samples and 200 iterations.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        Rows of both; curves as arrays.
    """
    steps = 200 if config.quick else 20_000
    starts = STARTS[:1] if config.quick else STARTS
    problems = {power: ethanol_regression(config.data_dir, power) for power in (2, 4)}
    progress("two samples")
    toy = [] if config.quick else list(map(keep, toy_rows(config.seeds)))
    measured: list[Record] = []
    arrays: dict[str, object] = {"iterations": np.array(checkpoints(steps))}
    for power, problem in problems.items():
        if config.quick:
            problem = LpRegression(
                inputs=problem.inputs[::5], targets=problem.targets[::5], power=power
            )
        _, optimum = problem.solve()
        for start in starts:

            def tell(label: str, prefix: str = f"l_{power}, {start}") -> None:
                progress(f"{prefix}: {label}")

            study = _Study(problem.compressed(), optimum, steps, tell)
            for row, curve in study.rows(start, config.seeds):
                key = {"part": "ethanol", "power": power, "start": start, "optimum": optimum}
                measured.append(keep(key | row))
                arrays[_name(power, start, row["method"])] = curve
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"steps": steps, "start_scale": START_SCALE, "dtype": "float64"},
        published=PUBLISHED,
        measured=toy + measured,
        claims=[] if config.quick else toy_claims(toy) + ethanol_claims(measured),
        arrays=arrays,
    )


class _Study:
    """All methods on one problem."""

    def __init__(
        self, problem: LpRegression, optimum: float, steps: int, progress: Progress
    ) -> None:
        self.problem, self.optimum, self.steps = problem, optimum, steps
        self.progress = progress
        self.targets = [ratio * optimum for ratio in RATIOS]

    def rows(self, start: str, seeds: Sequence[int]) -> Iterator[tuple[Record, object]]:
        """Yield a row and a curve, over the optimum, for each method."""
        first, *others = [self._start(start, seed) for seed in seeds]
        methods = {
            name: (method, range(middle[self.problem.power] - 2, middle[self.problem.power] + 3))
            for name, (method, middle) in BATCHED.items()
        }
        traces = search(self.problem, first, methods, self.steps, self.targets, self.progress)
        spread = self._spread(traces, others if start == "near zero" else [])
        for name, trace in traces.items():
            counts = [trace.iterations(target) for target in range(len(RATIOS))]
            row = self._row(name, float(trace.best[trace.winner]), counts)
            row |= {"rate": rate_of(trace.exponents[trace.winner]), "inside": not trace.at_edge()}
            row |= {
                "end_over_optimum": float(trace.ends[trace.steadiest]) / self.optimum,
                "end_rate": rate_of(trace.exponents[trace.steadiest]),
            }
            ends = [row["loss_over_optimum"], *spread.get(name, [])]
            row |= {"seeds_from": min(ends), "seeds_to": max(ends)}
            yield row, (trace.curves[:, trace.steadiest] / self.optimum).numpy()
        shown = checkpoints(self.steps)
        for name, method in SINGLE.items():
            self.progress(name)
            losses = method(self.problem, first, self.steps)
            curve = [losses[min(count, len(losses) - 1)] / self.optimum for count in shown]
            counts = list(hits(losses, self.targets))
            yield self._row(name, min(losses), counts), np.array(curve)

    def _start(self, start: str, seed: int) -> Tensor:
        weight = torch.zeros(1, self.problem.inputs.shape[1], dtype=torch.float64)
        if start == "identity":  # a rectangular identity: the first unit vector
            weight[0, 0] = 1
            return weight
        return gaussian_start(weight, START_SCALE, torch.Generator().manual_seed(seed))

    def _row(self, name: str, best: float, counts: Sequence[int | None]) -> Record:
        columns = {f"to_{ratio:g}": count for ratio, count in zip(RATIOS, counts, strict=True)}
        return {"method": name, "loss_over_optimum": best / self.optimum} | columns

    def _spread(
        self, traces: Mapping[str, Trace], starts: Sequence[Tensor]
    ) -> dict[str, list[float]]:
        """Run further starts, at the rate that was best for the first."""
        runs = [
            BATCHED[name][0](
                start, torch.tensor([rate_of(trace.exponents[trace.winner])], dtype=torch.float64)
            )
            for start in starts
            for name, trace in traces.items()
        ]
        if not runs:
            return {}

        def tell(iteration: int) -> None:
            self.progress(f"further starts, iteration {iteration}")

        ends = descend(self.problem, runs, self.steps, self.targets, tell)
        ratios = [float(best) / self.optimum for best, _, _ in ends]
        count = len(traces)
        return {name: ratios[index::count] for index, name in enumerate(traces)}


def _name(power: int, start: str, method: str) -> str:
    return f"{power}|{start}|{method}"
