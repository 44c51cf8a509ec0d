"""Follow the gradient flow from alpha I at every depth, for ever smaller alpha.

Sources: Gunasekar et al., NeurIPS 2017, arXiv 1705.09280 (depth 2); arXiv 1905.13655, Theorems 1
and 2 (every depth, and against Schatten quasi-norms); the slides of 2019, page 27.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import torch

from virtualdepth.maths import nuclear_norm, schatten_norm
from virtualdepth.theory import integrate_flow
from virtualdepth_lab.reproduce.norms.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.norms.problem import Measurements, contradiction, random_problem
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction

TITLE = (
    "Gradient flow of one matrix from alpha I, where the measurements commute: as alpha falls, the "
    "solution found has the smallest nuclear norm at every depth >= 2, also where another solution "
    "has a smaller Schatten-2/N quasi-norm, which is what an L2 penalty on the layers would find."
)
# at a larger depth a larger alpha is small enough, and the flow takes longer to leave it
ALPHAS = {2: (1e-2, 1e-4, 1e-6), 3: (1e-2, 1e-3), 4: (1e-2, 1e-3)}
STOP_LOSS, RTOL, MOST = 1e-6, 1e-3, 5000


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each problem, depth and alpha."""
    parts = {
        f"commuting measurements, seed {seed}": partial(_rows, random_problem(seed), {"seed": seed})
        for seed in config.seeds
    }
    parts["nuclear norm against Schatten norm"] = partial(_rows, contradiction(), {})
    measured = keep(parts)
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"stop_loss": STOP_LOSS, "rtol": RTOL, "max_evaluations": MOST},
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured)),
    )


def _rows(problem: Measurements, key: Record) -> Iterator[Record]:
    smallest = problem.smallest_nuclear_norm()
    for depth, alphas in ALPHAS.items():
        for alpha in alphas:
            start = alpha * torch.eye(problem.spectra.shape[1], dtype=torch.float64)
            end = integrate_flow(
                problem.objective,
                start,
                depth,
                stop_loss=STOP_LOSS,
                rtol=RTOL,
                max_evaluations=MOST,
            )
            norm = float(nuclear_norm(end.weight))
            row: Record = {"problem": problem.name, **key, "depth": depth, "alpha": alpha}
            row |= {"loss": end.loss, "nuclear_norm": norm, "smallest": smallest}
            row |= {"excess": norm / smallest - 1}
            if problem.name == "contradiction":
                row["schatten"] = float(schatten_norm(end.weight, 2 / 3))
                row["smallest_schatten"] = 2.2
            yield row
