"""Run every method on every completion, and compare where they end.

Source: arXiv 1905.13655, section 2; N. Cohen, "Analyzing Optimization and Generalization in Deep
Learning via Trajectories of Gradient Descent", slides, 2019, pages 28-29.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from virtualdepth.data import Completion, gaussian_layers, low_rank_problem, small_start
from virtualdepth.maths import balanced_factors
from virtualdepth.runs import torch_threads
from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm
from virtualdepth_lab.reproduce.matrix_completion.claims import PUBLISHED, claims, summary
from virtualdepth_lab.reproduce.matrix_completion.methods import (
    AUTO,
    EXPLICIT,
    FAST,
    FLOW,
    NUCLEAR,
    SINGLE,
    TRUTH,
    Trained,
    auto,
    explicit_loop,
    flow,
    flow_then_minimise,
    single_loop,
    tight_flow,
)
from virtualdepth_lab.reproduce.matrix_completion.problem import SCALE, settings, start_of
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction

TITLE = (
    "Completion of a 100 x 100 matrix of rank 5, and of one of 60 x 60 and rank 3: explicit "
    "networks and ONE matrix trained as if it were deep, beside nuclear norm minimisation. Error "
    "is the mean over all entries of (W - truth)^2. CPU seconds are process time on one thread, "
    "methods interleaved in one run."
)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each method, depth, number observed and seed; quick: no claims."""
    chosen = settings(config.quick)
    parts = {
        f"{size} x {size}, {observed} observed, seed {seed}, {name}": partial(
            rows, (size, rank, observed), seed
        )
        for seed in config.seeds
        for size, rank, observed in chosen["problems"]
        for name, rows in _methods(chosen["stop_loss"], progress).items()
    }
    apart = {
        f"distances, depth {depth:g}": partial(_distances, chosen, config.seeds[0], depth, progress)
        for depth in chosen["compared"]
    }
    with torch_threads(1), threadpool_limits(1):
        _warm_up()
        measured = keep(parts, later=len(apart))
        distances = keep(apart)
    return Reproduction(
        name=config.name,
        config=asdict(config) | chosen,
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
    for train in (auto, flow, flow_then_minimise):
        train(problem, start, 2, stop_loss=0.0, max_evaluations=2)


_Rows = Callable[[tuple[int, int, int], int], Iterator[Record]]  # of a problem and a seed


def _methods(stop_loss: float, progress: Progress) -> dict[str, _Rows]:
    found: dict[str, _Rows] = {NUCLEAR: _convex_rows}
    for depth in (1, 2, 3, 4, 6, math.inf):
        found[f"depth {depth:g}"] = partial(
            _rows, depth=depth, stop_loss=stop_loss, progress=progress
        )
    return found


def _convex_rows(chosen: tuple[int, int, int], seed: int) -> Iterator[Record]:
    size, rank, observed = chosen
    problem = low_rank_problem(size, rank, observed, seed)
    key: Record = {"size": size, "observed": observed, "seed": seed}
    yield key | {"method": TRUTH} | problem.measures(problem.truth)
    convex = minimise_nuclear_norm(problem.truth, problem.mask)
    yield key | {"method": NUCLEAR, "gap": convex.gap} | problem.measures(convex.weight)


def _rows(
    chosen: tuple[int, int, int], seed: int, *, depth: float, stop_loss: float, progress: Progress
) -> Iterator[Record]:
    size, rank, observed = chosen
    problem = low_rank_problem(size, rank, observed, seed)
    key: Record = {"size": size, "observed": observed, "seed": seed}
    single = problem.to(torch.float32)
    for method, end in _trained(single, depth, stop_loss, seed, progress):
        yield key | {"method": method, "depth": depth} | _record(problem, end)


def _trained(
    problem: Completion, depth: float, stop_loss: float, seed: int, progress: Progress
) -> Iterator[tuple[str, Trained]]:
    """Train by every method that knows this depth."""
    size = len(problem.truth)
    start = start_of(size, depth, seed).float()
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


def _record(problem: Completion, end: Trained) -> Record:
    return problem.measures(end.weight) | {
        "evaluations": end.evaluations,
        "cpu_seconds": end.cpu_seconds,
        "loss": end.loss,
        "finished": end.finished,
    }


def _distances(chosen: Record, seed: int, depth: int, progress: Progress) -> Iterator[Record]:
    """Compare ends: one matrix with the explicit network, fast methods with a slow one."""
    size, rank, observed = chosen["problems"][-1]
    stop_loss = chosen["stop_loss"]
    problem = low_rank_problem(size, rank, observed, seed)
    single = problem.to(torch.float32)
    start = start_of(size, depth, seed)
    progress(f"seed {seed}: tight integration, depth {depth}")
    tight = tight_flow(problem, start, depth, stop_loss=stop_loss)
    key: Record = {"size": size, "observed": observed, "seed": seed, "depth": depth}

    def row(method: str, end: Trained, other: Trained, name: str) -> Record:
        distance = relative_distance(end.weight, other.weight)
        compared = {"method": method, "distance_to": name, "distance": distance}
        return key | compared | _record(problem, end)

    progress(f"seed {seed}: {SINGLE} and {EXPLICIT} from balanced factors, depth {depth}")
    start = start.float()
    deep = explicit_loop(single, balanced_factors(start, depth), stop_loss=stop_loss)
    end = single_loop(single, start, depth, stop_loss=stop_loss)
    yield row(SINGLE, end, deep, "explicit network, same rule and start")
    for method, train in ((FLOW, flow), (FAST, flow_then_minimise), (AUTO, auto)):
        end = train(single, start, depth, stop_loss=stop_loss, max_evaluations=12_000)
        yield row(method, end, tight, "tight integration")


def relative_distance(weight: Tensor, other: Tensor) -> float:
    """Return the Frobenius distance over the norm of ``other``."""
    return float((weight.double() - other.double()).norm() / other.double().norm())
