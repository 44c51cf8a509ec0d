"""Run the table of two samples, then every method on the ethanol data.

Sources: arXiv 1802.06509, sections 5 and 8; the slides of 2019, page 21.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from virtualdepth_lab.reproduce.lp_regression.claims import PUBLISHED, ethanol_claims, toy_claims
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression, ethanol_regression
from virtualdepth_lab.reproduce.lp_regression.study import START_SCALE, STARTS, Study
from virtualdepth_lab.reproduce.lp_regression.toy import toy_rows
from virtualdepth_lab.reproduce.lp_regression.training import checkpoints
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays

TITLE = (
    "Linear regression by one weight vector as if it were N layers deep, under l_2 and l_4 loss, "
    "full batch, float64: on two samples, and on the ethanol data (2565 x 128, standardised). "
    "Every method is at its best constant learning rate on a quarter-decade grid, widened until "
    "the best is inside. Loss over optimum is the smallest along the way, which a run may leave "
    "again; end over optimum is the smallest that a run of the grid still has at its end; "
    "iterations are those of the rate that reaches the target first."
)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return rows of both parts, curves as arrays.

    The first seed of the near-zero starts is that of the search. Quick: no table of two samples, a
    fifth of the ethanol samples, 200 iterations, no claims.
    """
    problems = [ethanol_regression(config.data_dir, power) for power in (2, 4)]
    steps = 200 if config.quick else 20_000
    toys = {} if config.quick else {"two samples": partial(toy_rows, config.seeds)}
    trained = {
        f"l_{problem.power}, {start}": partial(
            _ethanol_rows, problem, start, config, steps, progress
        )
        for problem in problems
        for start in (STARTS[:1] if config.quick else STARTS)
    }
    toy = keep(toys, later=len(trained))
    measured = keep(trained)
    arrays: dict[str, object] = {"iterations": np.array(checkpoints(steps))}
    arrays |= take_arrays(measured)
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"steps": steps, "start_scale": START_SCALE, "dtype": "float64"},
        published=PUBLISHED,
        measured=toy + measured,
        claims=[] if config.quick else toy_claims(toy) + ethanol_claims(measured),
        arrays=arrays,
    )


def _ethanol_rows(
    problem: LpRegression, start: str, config: ReproduceConfig, steps: int, progress: Progress
) -> Iterator[Record]:
    power = problem.power
    if config.quick:
        problem = replace(problem, inputs=problem.inputs[::5], targets=problem.targets[::5])
    _, optimum = problem.solve()

    def tell(label: str) -> None:
        progress(f"l_{power}, {start}: {label}")

    study = Study(problem=problem.compressed(), optimum=optimum, steps=steps, progress=tell)
    for row, curve in study.rows(start, config.seeds):
        row = {"part": "ethanol", "power": power, "start": start, "optimum": optimum} | row
        yield row | {"arrays": {f"{power}|{start}|{row['method']}": curve.numpy()}}
