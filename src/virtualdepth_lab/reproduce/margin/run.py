"""Train one vector and the explicit network at every depth, from the same start.

Sources: Soudry, Hoffer, Nacson, Gunasekar, Srebro, JMLR 2018, arXiv 1710.10345 (one layer); Ji and
Telgarsky, ICLR 2019, arXiv 1810.02032 (linear networks of any depth); Nacson, Lee, Gunasekar,
Savarese, Srebro, Soudry, AISTATS 2019, arXiv 1803.01905 (steps that grow as the loss falls);
Gunasekar, Lee, Soudry, Srebro, NeurIPS 2018, arXiv 1806.00468 (norms of other structures).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from virtualdepth_lab.reproduce.margin.claims import PUBLISHED, claims, curve_name
from virtualdepth_lab.reproduce.margin.layers import added_rows, layer_rows
from virtualdepth_lab.reproduce.margin.methods import (
    RELATIVE_STEP,
    STEP,
    follow_network,
    follow_vector,
)
from virtualdepth_lab.reproduce.margin.norms import PROBLEMS, norm_rows
from virtualdepth_lab.reproduce.margin.problem import (
    Separable,
    angle,
    digits_problem,
    random_problem,
)
from virtualdepth_lab.reproduce.margin.summary import summarised
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays

TITLE = (
    "Logistic loss on linearly separable data: the direction of one vector under the end-to-end "
    "rule of depth 1, 2 and 3, and of the explicit network beside it, against the maximum-margin "
    "direction of scikit-learn's SVC. With constant steps the direction converges like "
    "1 / log(steps), too slowly to see. So a step here descends the logarithm of the loss: that is "
    "a step on the loss itself whose size grows as the loss falls. It is divided by "
    "N ||w||^{2-2/N}, the largest gain of depth N. Then classifiers with vector outputs, few "
    "entries or few frequencies: their margins in the norms that depth 1, 2 and 3 induce, over the "
    "largest ones by a convex solver, and how far each end is from a critical point (residual). "
    "Last, layers that start unbalanced, and vectors of depth 1 and 3 that are added."
)
VECTOR, EXPLICIT = "one vector", "explicit network"
RUNS = [(VECTOR, 1), (VECTOR, 2), (VECTOR, 3), (EXPLICIT, 2), (EXPLICIT, 3)]
START = 0.1  # length of w(0)
STEPS, NORM_STEPS, LAYER_STEPS = 20_000, 8000, 5000


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each problem, seed, network and depth, curves and sizes as arrays.

    The first seed is also that of the start on the digits. Quick: fewer steps.
    """
    steps = STEPS // 100 if config.quick else STEPS
    fewer = 20 if config.quick else 1
    problems = [(random_problem(seed), seed) for seed in config.seeds]
    problems.append((digits_problem(), config.seeds[0]))
    parts: dict[str, Callable[[], Iterable[Record]]] = {
        f"{problem.name}, seed {seed}": partial(_problem_rows, problem, seed, steps, progress)
        for problem, seed in problems
    }
    for seed in config.seeds:
        for draw in PROBLEMS:
            classifier, most = draw(seed), NORM_STEPS // fewer
            rows = partial(norm_rows, classifier, seed, most, progress)
            parts[f"{classifier.name}, seed {seed}"] = rows
    parts["unbalanced layers"] = partial(layer_rows, config.seeds, LAYER_STEPS // fewer)
    parts["depths added"] = partial(added_rows, config.seeds, LAYER_STEPS // fewer)
    measured = keep(parts)
    arrays = take_arrays(measured)
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | {"steps": steps, "start": START, "step": STEP, "relative_step": RELATIVE_STEP},
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured, arrays)),
        summary=list(summarised(measured)),
        arrays=arrays,
    )


def _problem_rows(
    problem: Separable, seed: int, steps: int, progress: Progress
) -> Iterator[Record]:
    """Yield a row of the end, with norms, angles and shortfalls by recorded step, (3, records)."""
    best = problem.largest_margin()
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(best.shape, generator=generator, dtype=torch.float64)
    start *= START / start.norm()
    directions: dict[int, Tensor] = {}
    for network, depth in RUNS:
        progress(f"{problem.name}, seed {seed}, {network}, depth {depth}")
        follow = follow_vector if network == VECTOR else follow_network
        weights = follow(problem, start, depth, steps)
        norms = weights.norm(dim=1)
        angles = angle(weights, best)
        margins = torch.tensor([problem.margin(weight.unsqueeze(0)) for weight in weights])
        row: Record = {"part": "direction", "problem": problem.name, "seed": seed}
        row |= {"network": network, "depth": depth}
        row |= {"angle": float(angles[-1])}
        row |= {"margin": float(margins[-1]), "largest": problem.margin(best)}
        row |= {"shortfall": 1 - row["margin"] / row["largest"], "norm": float(norms[-1])}
        if network == VECTOR:
            directions[depth] = weights / norms.unsqueeze(1)
        else:
            row["apart"] = float(angle(weights, directions[depth]).max())
        curves = torch.stack([norms, angles, 1 - margins / row["largest"]])
        yield row | {"arrays": {curve_name(row): curves.numpy()}}
