"""Solution paths over the decay, at depths 2, 3 and 4, and the time beside a proximal method.

Sources: arXiv cs/0408011 (depth 2), 1606.00668 (Schatten quasi-norms as factors).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from statistics import median

from torch import Tensor

from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.schatten_decay.claims import PUBLISHED, claims, summary
from virtualdepth_lab.reproduce.schatten_decay.problem import (
    COLUMNS,
    NOISE,
    RANK,
    ROWS,
    SAMPLES,
    Problem,
    convex_solution,
    decayed_steps,
    make_problem,
    proximal_steps,
    rank_of,
    seconds_of,
    steps_to,
)

TITLE = (
    f"Least squares for a {ROWS} x {COLUMNS} matrix of rank {RANK} from {SAMPLES} noisy samples. "
    "Weight decay lambda at depth N lowers the loss plus lambda N/2 times the sum of the singular "
    "values to the power 2/N. At depth 2 this is the nuclear norm, and a convex solver knows the "
    "answer."
)
SHARES = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.02)
GAP = 1e-6


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each seed, decay and method, and the times of the first seed.

    Quick: three decays and fewer steps, and no claims.
    """
    measured = keep(_parts(config))
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | {"dtype": "float64", "shape": [ROWS, COLUMNS], "rank": RANK}
        | {"samples": SAMPLES, "noise": NOISE, "time_to_relative_gap": GAP},
        published=PUBLISHED,
        measured=measured,
        claims=[] if config.quick else claims(measured),
        summary=summary(measured),
    )


def _parts(config: ReproduceConfig) -> dict[str, Callable[[], Iterator[Record]]]:
    shares = SHARES[1::3] if config.quick else SHARES
    steps = 200 if config.quick else 5000
    parts: dict[str, Callable[[], Iterator[Record]]] = {}
    problems = {seed: make_problem(seed) for seed in config.seeds}
    for seed, problem in problems.items():
        for share in shares:
            parts[f"seed {seed}, lambda {share:g} of the largest"] = partial(
                _path_rows, problem, seed, share, steps
            )
    for share in shares[::2]:
        parts[f"time, lambda {share:g} of the largest"] = partial(
            _time_rows, problems[config.seeds[0]], share, steps
        )
    return parts


def _path_rows(problem: Problem, seed: int, share: float, steps: int) -> Iterator[Record]:
    decay = share * problem.largest_decay()
    convex = convex_solution(problem, decay)

    def row(method: str, depth: float, weight: Tensor) -> Record:
        apart = {"from_convex": _apart(weight, convex)} if depth == 2 else {}
        return {
            "part": "path",
            "seed": seed,
            "share": share,
            "method": method,
            "rank": rank_of(weight),
            "error": _apart(weight, problem.truth),
            "objective": problem.objective(weight, decay, depth),
            **apart,
        }

    yield row("convex solver", 2, convex)
    for depth in (2, 3, 4):
        found = next(islice(decayed_steps(problem, decay, depth), steps - 1, None))
        yield row(f"depth {depth}", depth, found.clone())


def _time_rows(problem: Problem, share: float, most: int) -> Iterator[Record]:
    decay = share * problem.largest_decay()
    least = problem.objective(convex_solution(problem, decay), decay, 2)
    aim = (1 + GAP) * least
    methods: dict[str, Callable[[], Iterator[Tensor]]] = {
        "proximal gradient, accelerated": lambda: proximal_steps(problem, decay),
        "depth 2": lambda: decayed_steps(problem, decay, 2),
    }
    for method, begin in methods.items():
        count = steps_to(begin(), lambda w: problem.objective(w, decay, 2) - aim, most)
        seconds = None
        if count is not None:
            seconds = median(seconds_of(begin(), count) for _ in range(3))
        yield {
            "part": "time",
            "share": share,
            "method": method,
            "steps": count,
            "milliseconds": None if seconds is None else 1e3 * seconds,
        }


def _apart(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())
