"""Follow the largest singular values of a completion at every depth, and solve the example.

Source: arXiv 1905.13655, section 3, Theorem 3; the slides of 2019, pages 30 and 31.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

import numpy as np
from torch import Tensor

from virtualdepth.data import Completion, low_rank_problem, small_start
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays
from virtualdepth_lab.reproduce.singular_values.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.singular_values.problem import closed_form, solve_one_measurement
from virtualdepth_lab.reproduce.singular_values.trajectories import (
    EVERY,
    explicit_trajectory,
    single_trajectory,
    theory_trajectory,
)

TITLE = (
    "The ten largest singular values of a completion from a small balanced start: one matrix under "
    "EndToEndSGD, the explicit network beside it, and the theory's equation over them; and the "
    "one-measurement example with its closed forms."
)
# learning rate and steps at each depth, long enough for the values of the truth to grow; the
# distance to the theory's continuous time is of first order in the rate
PLAN = {1: (1.0, 6000), 2: (0.1, 12_000), 3: (0.025, 36_000), 4: (0.015, 54_000)}
# a smaller matrix moves faster
QUICK_PLAN = {1: (0.25, 2000), 2: (0.025, 4000), 3: (0.0125, 6000), 4: (0.0075, 9000)}


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return rows of the example and of the agreement at each depth, trajectories as arrays.

    Only the first seed counts; quick: a 20 x 20 matrix.
    """
    size, rank, observed = (20, 1, 200) if config.quick else (60, 3, 1080)
    problem = low_rank_problem(size, rank, observed, config.seeds[0])
    # the same start for every depth
    start = small_start(size, 1, 1e-2, config.seeds[0] + 1)
    parts: dict[str, Callable[[], Iterable[Record]]] = {
        f"one measurement, depth {depth}": partial(_example, depth, 1e-3 if config.quick else 1e-5)
        for depth in PLAN
    }
    for depth, (lr, steps) in (QUICK_PLAN if config.quick else PLAN).items():
        parts[f"trajectories, depth {depth}"] = partial(
            _trajectories, problem, start, rank, depth, lr, steps
        )
    measured = keep(parts)
    arrays = take_arrays(measured)
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"size": size, "rank": rank, "observed": observed},
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured)),
        arrays=arrays,
    )


def _trajectories(
    problem: Completion, start: Tensor, rank: int, depth: int, lr: float, steps: int
) -> list[Record]:
    single, slopes = single_trajectory(problem, start, depth, lr, steps)
    deep = explicit_trajectory(problem, start, depth, lr, steps)
    theory = theory_trajectory(single[0], slopes, depth, lr * EVERY)
    scale = float(single.max())
    curves = (("single", single), ("deep", deep), ("theory", theory))
    arrays = {f"{name}_{depth}": value.numpy() for name, value in curves}
    arrays[f"time_{depth}"] = lr * EVERY * np.arange(len(single))
    row: Record = {
        "example": "completion",
        "depth": depth,
        "lr": lr,
        "steps": steps,
        "explicit_gap": float((single - deep).abs().max()) / scale,
        "theory_gap": float((single - theory).abs().max()) / scale,
        "next_to_last": float(single[-1, rank] / single[-1, rank - 1]),
    }
    return [row | {"arrays": arrays}]


def _example(depth: int, most: float) -> list[Record]:
    first, second = solve_one_measurement(depth, most)
    row: Record = {"example": "one measurement", "depth": depth, "s_1": first, "s_2": second}
    return [row | {"closed_form": closed_form(second, depth)}]
