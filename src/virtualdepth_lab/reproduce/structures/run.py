"""Check both knobs: structure and imbalance, on networks, signals and features.

Sources: arXiv 1806.00468, 2002.09277, 2010.02501, 2108.01538 (structures); 2409.14623 (imbalance);
0711.1612 (reweighting).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import grouped
from virtualdepth_lab.reproduce.structures.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.structures.features import METHODS, feature_rows
from virtualdepth_lab.reproduce.structures.lazy import lazy_rows
from virtualdepth_lab.reproduce.structures.problem import ACTIVE
from virtualdepth_lab.reproduce.structures.recovery import FOUND, IMBALANCES, recovery_rows
from virtualdepth_lab.reproduce.structures.slopes import slope_rows
from virtualdepth_lab.reproduce.structures.summary import summarised
from virtualdepth_lab.reproduce.structures.width import width_rows

TITLE = (
    "Two knobs of one rule: which blocks a weight consists of (structure), and how unequal its "
    "layers are (imbalance). The rule beside gradient descent on the layers of each structure's "
    "network; signals of few active blocks from too few measurements, beside the convex and the "
    "reweighted convex programme; features of a ReLU network; the turn of the tangent kernel by "
    "imbalance; and two Gaussian layers of growing width."
)
LAMBDAS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
WIDTHS = (50, 200, 800, 3200)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return the rows of every part; the slopes are of the first seed.

    Quick: fewer depths, draws and steps, and no claims.
    """
    measured = keep(_parts(config, progress))
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | {
            "found_below": FOUND,
            "recovery_imbalances": [list(pair) for pair in IMBALANCES.items()],
        },
        published=PUBLISHED,
        measured=measured,
        claims=[] if config.quick else list(claims(measured)),
        summary=[row for part in grouped(measured, "part").values() for row in summarised(part)],
    )


def _parts(
    config: ReproduceConfig, progress: Progress
) -> dict[str, Callable[[], Iterator[Record]]]:
    quick, seeds = config.quick, config.seeds
    draws, most = (2, 50) if quick else (10, 4000)
    steps, depths = (100, (2,)) if quick else (3000, (2, 3))
    parts: dict[str, Callable[[], Iterator[Record]]] = {}
    parts["slopes"] = partial(slope_rows, seeds[:1], depths)
    for structure in ACTIVE:
        parts[f"recovery, {structure}"] = partial(
            recovery_rows, structure, seeds, draws, most, progress
        )
    for method in METHODS:
        parts[f"features, {method}"] = partial(feature_rows, method, seeds, steps, progress)
    for seed in seeds:
        lambdas = LAMBDAS[1::2] if quick else LAMBDAS
        parts[f"lazy to rich, seed {seed}"] = partial(lazy_rows, [seed], lambdas, depths)
    for width in WIDTHS[:2] if quick else WIDTHS:
        parts[f"infinite width, {width}"] = partial(width_rows, seeds, [width])
    return parts
