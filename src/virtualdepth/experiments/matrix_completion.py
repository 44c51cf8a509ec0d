"""Rerun the published matrix completion table with one matrix, the explicit network beside it.

Source: arXiv 1905.13655, section 2; N. Cohen, "Analyzing Optimization and Generalization in Deep
Learning via Trajectories of Gradient Descent", slides, 2019, pages 28-29.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median

import torch
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from torch import Tensor

from virtualdepth.experiments.completion import (
    Completion,
    gaussian_layers,
    low_rank_problem,
    small_start,
)
from virtualdepth.experiments.convex import minimise_nuclear_norm
from virtualdepth.experiments.descents import (
    Descent,
    auto,
    explicit_loop,
    flow,
    single_loop,
    tight_flow,
)
from virtualdepth.experiments.matrix_completion_claims import (
    AUTO,
    EXPLICIT,
    FLOW,
    NUCLEAR,
    SINGLE,
    claims,
)
from virtualdepth.experiments.reproduction import Progress, Record, ReproduceConfig, Reproduction
from virtualdepth.maths import balanced_factors

TITLE = (
    "Completion of a 100 x 100 matrix of rank 5: explicit networks and ONE matrix trained as if it "
    "were deep, beside nuclear norm minimisation. Error is the mean over all entries of "
    "(W - truth)^2. CPU seconds are process time on one thread, methods interleaved in one run."
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


def run(config: ReproduceConfig, progress: Progress) -> Reproduction:
    """Run every method on every problem.

    Args:
        config: seeds, and whether to be quick.
        progress: told what begins.

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
                for observed in settings["observed"]:
                    measured += _rows(settings, observed, seed, progress)
            distances = list(_distances(settings, config.seeds[0], progress))
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
    for descent in (auto, flow):
        descent(problem, start, 2, stop_loss=0.0, max_evaluations=2)


def _settings(config: ReproduceConfig) -> Record:
    if config.quick:
        sizes = {"size": 30, "rank": 2, "observed": [400], "stop_loss": 1e-5}
    else:
        sizes = {"size": 100, "rank": 5, "observed": [5000, 2000], "stop_loss": 1e-6}
    return sizes | {"scale": SCALE, "lr": 1e-3, "cap": 0.05, "dtype": "float32"}


def _rows(settings: Record, observed: int, seed: int, progress: Progress) -> Iterator[Record]:
    problem = low_rank_problem(settings["size"], settings["rank"], observed, seed)
    progress(f"{observed} observed, seed {seed}: {NUCLEAR}")
    convex = minimise_nuclear_norm(problem.truth, problem.mask)
    key: Record = {"observed": observed, "seed": seed}
    yield key | {"method": NUCLEAR, "gap": convex.gap} | problem.measures(convex.weight)
    single = problem.to(torch.float32)
    for depth in (1, 2, 3, 4, 6, math.inf):
        for method, end in _descents(settings, single, depth, seed, progress):
            yield key | {"method": method, "depth": depth} | _record(problem, end)


def _descents(
    settings: Record, problem: Completion, depth: float, seed: int, progress: Progress
) -> Iterator[tuple[str, Descent]]:
    size, stop_loss = settings["size"], settings["stop_loss"]
    start = small_start(size, depth, SCALE, seed + 1).float()
    if depth in (2, 3, 4):
        progress(f"seed {seed}: {EXPLICIT}, depth {depth}")
        layers = [layer.float() for layer in gaussian_layers(size, depth, SCALE, seed + 1)]
        yield EXPLICIT, explicit_loop(problem, layers, stop_loss=stop_loss)
    if depth != math.inf:
        progress(f"seed {seed}: {FLOW}, depth {depth}")
        yield FLOW, flow(problem, start, depth, stop_loss=stop_loss, max_evaluations=12_000)
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
    observed, stop_loss = settings["observed"][-1], settings["stop_loss"]
    problem = low_rank_problem(settings["size"], settings["rank"], observed, seed)
    for depth in (2, 3, 4):
        start = small_start(settings["size"], depth, SCALE, seed + 1)
        progress(f"seed {seed}: tight integration, depth {depth}")
        tight = tight_flow(problem, start, depth, stop_loss=stop_loss)
        progress(f"seed {seed}: {SINGLE} and {EXPLICIT} from balanced factors, depth {depth}")
        half, begin = problem.to(torch.float32), start.float()
        deep = explicit_loop(half, balanced_factors(begin, depth), stop_loss=stop_loss)
        single = single_loop(half, begin, depth, stop_loss=stop_loss)
        key: Record = {"observed": observed, "seed": seed, "depth": depth}
        yield (
            key
            | {
                "method": SINGLE,
                "distance_to": "explicit network, same rule and start",
                "distance": relative(single.weight, deep.weight),
            }
            | _record(problem, single)
        )
        for method, descent in ((FLOW, flow), (AUTO, auto)):
            end = descent(half, begin, depth, stop_loss=stop_loss)
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


def summary(measured: list[Record]) -> list[Record]:
    """Take medians over seeds, with the range of the error.

    Args:
        measured: rows of single runs.

    Returns:
        One row for each number observed, method and depth.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for row in measured:
        groups.setdefault((row["observed"], row["method"], row.get("depth")), []).append(row)
    table = []
    for (observed, method, depth), rows in groups.items():
        errors = [row["error"] for row in rows]
        line: Record = {"observed": observed, "method": method, "depth": depth}
        line |= {"error": median(errors), "from": min(errors), "to": max(errors)}
        for name in ("nuclear_norm", "effective_rank", "evaluations", "cpu_seconds"):
            if name in rows[0]:
                line[name] = median(row[name] for row in rows)
        table.append(line | {"finished": sum(row.get("finished", True) for row in rows)})
    return table


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw error against CPU seconds, one marker for each run.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    observed = sorted({row["observed"] for row in result.measured})
    figure = Figure(figsize=(max(8, 5 * len(observed)), 5), layout="constrained")
    panels = figure.subplots(1, len(observed), squeeze=False, sharey=True)[0]
    colours = {EXPLICIT: "#000000", FLOW: "#D55E00", AUTO: "#56B4E9"}
    markers = {2: "o", 3: "^", 4: "s"}
    for ax, count in zip(panels, observed, strict=True):
        for row in result.measured:
            if row["observed"] == count and "distance" not in row and row.get("depth") in markers:
                ax.plot(
                    row["cpu_seconds"],
                    row["error"],
                    marker=markers[row["depth"]],
                    color=colours[row["method"]],
                    linestyle="none",
                    label=f"{row['method']}, depth {row['depth']}",
                )
        convex = [
            row["error"]
            for row in result.measured
            if row["method"] == NUCLEAR and row["observed"] == count
        ]
        ax.axhline(median(convex), color="0.5", linestyle="--", label=NUCLEAR)
        ax.set(xscale="log", yscale="log", xlabel="CPU seconds", title=f"{count} observed")
        ax.grid(color="0.9")
    panels[0].set_ylabel("error over all entries")
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2, fontsize=8)
    return {"Error of each run against the CPU time that it took.": figure}
