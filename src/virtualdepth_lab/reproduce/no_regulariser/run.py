"""Measure curl and work of the rule's field in four cases, at many depths.

Source: arXiv 1802.06509, Theorem 2 and section 6.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial

from virtualdepth_lab.reproduce.no_regulariser.claims import PUBLISHED, claims, summary
from virtualdepth_lab.reproduce.no_regulariser.problem import (
    SIZE,
    away_from_zero,
    constant_gradient,
    near_zero,
    three_outputs,
)
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction

TITLE = (
    "The curl of the field F(W) = P_W(grad l(W)), and its work around a closed curve: a gradient "
    "field has neither, so where they are not 0 no regulariser added to l gives the rule. Curls "
    "are relative: the Frobenius norm over ||W||^{1-2/N} ||grad l||."
)
DEPTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return rows for each case, depth and seed."""
    parts = {
        f"{case.__name__.replace('_', ' ')}, seed {seed}": partial(_rows, case, seed)
        for case in (constant_gradient, near_zero, away_from_zero, three_outputs)
        for seed in config.seeds
    }
    measured = keep(parts)
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64", "inputs": SIZE},
        published=PUBLISHED,
        measured=measured,
        claims=claims(measured),
        summary=summary(measured),
    )


def _rows(case: Callable[[int, float], Iterable[Record]], seed: int) -> Iterator[Record]:
    for depth in DEPTHS:
        yield from case(seed, depth)
