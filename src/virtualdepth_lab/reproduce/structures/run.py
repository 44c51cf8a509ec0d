"""Check both knobs: structure and imbalance, on networks, signals and features.

Sources: arXiv 1806.00468, 2002.09277, 2010.02501, 2108.01538 (structures); 2409.14623 (imbalance);
0711.1612 (reweighting).
"""

from collections.abc import Iterator
from dataclasses import asdict

from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import grouped
from virtualdepth_lab.reproduce.structures.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.structures.features import feature_rows
from virtualdepth_lab.reproduce.structures.lazy import lazy_rows
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
    measured = list(map(keep, _rows(config, progress)))
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


def _rows(config: ReproduceConfig, progress: Progress) -> Iterator[Record]:
    quick, seeds = config.quick, config.seeds
    progress("slopes")
    yield from slope_rows(seeds[:1], (2,) if quick else (2, 3))
    yield from recovery_rows(seeds, 2 if quick else 10, 50 if quick else 4000, progress)
    yield from feature_rows(seeds, 100 if quick else 3000, progress)
    progress("lazy to rich")
    yield from lazy_rows(seeds, LAMBDAS[1::2] if quick else LAMBDAS, (2,) if quick else (2, 3))
    progress("infinite width")
    yield from width_rows(seeds, WIDTHS[:2] if quick else WIDTHS)
