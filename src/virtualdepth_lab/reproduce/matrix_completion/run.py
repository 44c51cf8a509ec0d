"""Rerun the published matrix completion table with one matrix, the explicit network beside it.

Source: arXiv 1905.13655, section 2; N. Cohen, "Analyzing Optimization and Generalization in Deep
Learning via Trajectories of Gradient Descent", slides, 2019, pages 28-29.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from virtualdepth.data import (
    Completion,
    gaussian_layers,
    low_rank_problem,
    small_start,
)
from virtualdepth.maths import balanced_factors
from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm
from virtualdepth_lab.reproduce.matrix_completion.claims import (
    AUTO,
    EXPLICIT,
    FAST,
    FLOW,
    NUCLEAR,
    SINGLE,
    TRUTH,
    claims,
)
from virtualdepth_lab.reproduce.matrix_completion.figures import draw, summary
from virtualdepth_lab.reproduce.matrix_completion.methods import (
    Descent,
    auto,
    explicit_loop,
    flow,
    flow_then_minimise,
    single_loop,
    tight_flow,
)
from virtualdepth_lab.reproduce.result import (
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

__all__ = ["TITLE", "draw", "run"]

TITLE = (
    "Completion of a 100 x 100 matrix of rank 5, and of one of 60 x 60 and rank 3: explicit "
    "networks and ONE matrix trained as if it were deep, beside nuclear norm minimisation. Error "
    "is the mean over all entries of (W - truth)^2. CPU seconds are process time on one thread, "
    "methods interleaved in one run."
)
PUBLISHED = [
    {"observed": 5000, "method": NUCLEAR, "error": 8e-7, "nuclear_norm": 221, "effective_rank": 5},
    *(
        {"observed": 5000, "method": EXPLICIT, "depth": depth, "error": error}
        | {"nuclear_norm": 221, "effective_rank": 5}
        for depth, error in ((2, 5e-6), (3, 4e-6), (4, 4e-6))
    ),
    {"observed": 2000, "method": NUCLEAR, "error": 1e-1, "nuclear_norm": 210, "effective_rank": 9},
    *(
        {"observed": 2000, "method": EXPLICIT, "depth": depth, "error": error}
        | {"nuclear_norm": norm, "effective_rank": rank}
        for depth, error, norm, rank in ((2, 2e-2, 217, 7), (3, 3e-5, 221, 5), (4, 2e-5, 221, 5))
    ),
]
SCALE = 1e-3


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Run every method on every problem.

    Args:
        config: seeds, and whether to be quick.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        One row for each method, depth, number observed and seed.
    """
    settings = _settings(config)
    measured: list[Record] = []
    distances: list[Record] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            _warm_up()
            for seed in config.seeds:
                for problem in settings["problems"]:
                    measured += map(keep, _rows(settings, problem, seed, progress))
            distances = list(map(keep, _distances(settings, config.seeds[0], progress)))
    finally:
        torch.set_num_threads(threads)
    return Reproduction(
        name=config.name,
        config=asdict(config) | settings,
        published=PUBLISHED,
        measured=measured + distances,
        claims=[] if config.quick else claims(measured, distances),
        summary=summary(measured) + distances,
    )


def _warm_up() -> None:
    """Use every method once, so that no time goes to what torch loads at its first step."""
    problem = low_rank_problem(4, 1, 12, 0)
    start = small_start(4, 1, 0.1, 0)
    explicit_loop(problem, balanced_factors(start, 2), stop_loss=0.0, max_steps=1)
    single_loop(problem, start, 2, stop_loss=0.0, max_steps=1)
    for descent in (auto, flow, flow_then_minimise):
        descent(problem, start, 2, stop_loss=0.0, max_evaluations=2)


def _settings(config: ReproduceConfig) -> Record:
    # size, rank, observed; ends are compared on the last, at some depths
    if config.quick:
        chosen = {"problems": [[20, 1, 200]], "compared": [2, 3], "stop_loss": 1e-4}
    else:
        problems = [[60, 3, 1000], [100, 5, 5000], [100, 5, 2000]]
        chosen = {"problems": problems, "compared": [2, 3, 4], "stop_loss": 1e-6}
    return chosen | {"scale": SCALE, "lr": 1e-3, "cap": 0.05, "dtype": "float32"}


def _rows(
    settings: Record, chosen: tuple[int, int, int], seed: int, progress: Progress
) -> Iterator[Record]:
    size, rank, observed = chosen
    problem = low_rank_problem(size, rank, observed, seed)
    key: Record = {"size": size, "observed": observed, "seed": seed}
    yield key | {"method": TRUTH} | problem.measures(problem.truth)
    progress(f"{size} x {size}, {observed} observed, seed {seed}: {NUCLEAR}")
    convex = minimise_nuclear_norm(problem.truth, problem.mask)
    yield key | {"method": NUCLEAR, "gap": convex.gap} | problem.measures(convex.weight)
    single = problem.to(torch.float32)
    for depth in (1, 2, 3, 4, 6, math.inf):
        for method, end in _descents(settings["stop_loss"], single, depth, seed, progress):
            yield key | {"method": method, "depth": depth} | _record(problem, end)


def _descents(
    stop_loss: float, problem: Completion, depth: float, seed: int, progress: Progress
) -> Iterator[tuple[str, Descent]]:
    size = len(problem.truth)
    start = small_start(size, depth, SCALE, seed + 1).float()
    if depth in (2, 3, 4):
        progress(f"seed {seed}: {EXPLICIT}, depth {depth}")
        layers = [layer.float() for layer in gaussian_layers(size, depth, SCALE, seed + 1)]
        yield EXPLICIT, explicit_loop(problem, layers, stop_loss=stop_loss)
    if depth != math.inf:
        progress(f"seed {seed}: {FLOW}, depth {depth}")
        yield FLOW, flow(problem, start, depth, stop_loss=stop_loss, max_evaluations=12_000)
        progress(f"seed {seed}: {FAST}, depth {depth}")
        end = flow_then_minimise(
            problem, start, int(depth), stop_loss=stop_loss, max_evaluations=6000
        )
        yield FAST, end
    if depth != 1:
        progress(f"seed {seed}: {AUTO}, depth {depth}")
        yield AUTO, auto(problem, start, depth, stop_loss=stop_loss, max_evaluations=2000)


def _record(problem: Completion, end: Descent) -> Record:
    return problem.measures(end.weight) | {
        "evaluations": end.evaluations,
        "cpu_seconds": end.cpu_seconds,
        "loss": end.loss,
        "finished": end.finished,
    }


def _distances(settings: Record, seed: int, progress: Progress) -> Iterator[Record]:
    """Compare ends: of one matrix with the explicit network, and of fast ways with a slow one."""
    size, rank, observed = settings["problems"][-1]
    stop_loss = settings["stop_loss"]
    problem = low_rank_problem(size, rank, observed, seed)
    for depth in settings["compared"]:
        start = small_start(size, depth, SCALE, seed + 1)
        progress(f"seed {seed}: tight integration, depth {depth}")
        tight = tight_flow(problem, start, depth, stop_loss=stop_loss)
        progress(f"seed {seed}: {SINGLE} and {EXPLICIT} from balanced factors, depth {depth}")
        half, begin = problem.to(torch.float32), start.float()
        deep = explicit_loop(half, balanced_factors(begin, depth), stop_loss=stop_loss)
        single = single_loop(half, begin, depth, stop_loss=stop_loss)
        key: Record = {"size": size, "observed": observed, "seed": seed, "depth": depth}
        yield (
            key
            | {
                "method": SINGLE,
                "distance_to": "explicit network, same rule and start",
                "distance": relative(single.weight, deep.weight),
            }
            | _record(problem, single)
        )
        for method, descent in ((FLOW, flow), (FAST, flow_then_minimise), (AUTO, auto)):
            end = descent(half, begin, depth, stop_loss=stop_loss, max_evaluations=12_000)
            yield (
                key
                | {
                    "method": method,
                    "distance_to": "tight integration",
                    "distance": relative(end.weight, tight.weight),
                }
                | _record(problem, end)
            )


def relative(weight: Tensor, other: Tensor) -> float:
    """Measure the relative Frobenius distance.

    Args:
        weight: (m, n).
        other: (m, n), the denominator.

    Returns:
        A number >= 0.
    """
    return float((weight.double() - other.double()).norm() / other.double().norm())
