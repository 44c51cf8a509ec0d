"""What the directions have to bear out: pure functions of rows and curves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from virtualdepth_lab.reproduce.margin.methods import PER_DECADE
from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, spread, where

PUBLISHED: list[Record] = [
    {"source": "arXiv 1710.10345", "depth": "1", "direction tends to": "the maximum margin's"},
    {"source": "arXiv 1810.02032", "depth": "any", "direction tends to": "the maximum margin's"},
    {"source": "arXiv 1806.00468", "depth": "N", "direction tends to": "a stationary point of "
     "l_{2/N} of entries, or of frequencies"},
    {"source": "arXiv 1810.02032", "depth": "any", "direction tends to": "rank one in each layer, "
     "aligned with the next"},
    {"source": "arXiv 1905.07325", "depth": "1 and N, added", "direction tends to": "the deeper "
     "one's"},
]  # fmt: skip
# what the claims ask of the end; bounds written before the first run
ANGLE, SHORTFALL, APART = 0.01, 0.001, 0.05
# these after a prototype, which had .95 to 1.00, .003 to .02, 5e-4 and 0
OF_LARGEST, RESIDUAL, OUTSIDE, SHALLOW = 0.9, 0.05, 1e-3, 0.01

Curves = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]


def curve_name(row: Record) -> str:
    """Return the name under which the curves of a row are kept."""
    return f"{row['problem']}, seed {row['seed']}, {row['network']}, depth {row['depth']}"


def claims(measured: list[Record], curves: Curves) -> Iterator[Claim]:
    """Judge the rows; ``curves`` holds norms, angles and shortfalls by :func:`curve_name`."""
    parts = {part: rows for (part,), rows in grouped(measured, "part").items()}
    yield from _directions(parts["direction"], curves)
    yield from _norms(parts["norms"])
    yield _layers(parts["layers"])
    yield _added(parts["depths added"])


def _directions(rows_of_all: list[Record], curves: Curves) -> Iterator[Claim]:
    runs = grouped(rows_of_all, "network", "depth")
    for (network, depth), rows in runs.items():
        yield _arrives(f"{network}, depth {depth}", rows)
        yield _still_falls(f"{network}, depth {depth}", rows, curves)
    for (_, depth), rows in runs.items():
        if "apart" in rows[0]:
            apart = [row["apart"] for row in rows]
            yield Claim(
                claim=f"depth {depth}: one vector and the explicit network stay within {APART} rad "
                "of each other all along",
                held=max(apart) <= APART,
                evidence=f"largest angle {spread(apart)}",
            )


def _arrives(label: str, rows: list[Record]) -> Claim:
    angles, shortfalls = ([row[name] for row in rows] for name in ("angle", "shortfall"))
    return Claim(
        claim=f"{label}: the direction ends within {ANGLE} rad of the maximum margin's, the "
        f"normalised margin within {100 * SHORTFALL:g} % of the largest",
        held=max(angles) <= ANGLE and max(shortfalls) <= SHORTFALL,
        evidence=f"angles {spread(angles)}, shortfalls {spread(shortfalls)}",
    )


def _still_falls(label: str, rows: list[Record], curves: Curves) -> Claim:
    angles = [curves[curve_name(row)][1] for row in rows]
    ratios = [float(curve[-1 - PER_DECADE]) / float(curve[-1]) for curve in angles]
    return Claim(
        claim=f"{label}: the angle still falls over the last decade of steps",
        held=all(ratio > 1 for ratio in ratios),
        evidence=f"times smaller: {spread(ratios)}",
    )


def _norms(measured: list[Record]) -> Iterator[Claim]:
    for (problem,), rows in grouped(measured, "problem").items():
        found = {
            depth: where(rows, method=f"depth {depth}", depth=depth)
            for depth in sorted({row["depth"] for row in rows})
        }
        for depth, other in ((1, 2), (2, 1)):
            own, others = (
                [row[f"of_largest_{depth}"] for row in found[each]] for each in (depth, other)
            )
            yield Claim(
                claim=f"{problem}, depth {depth}: at least {OF_LARGEST:g} of the largest margin in "
                f"the norm of depth {depth}, and more than depth {other} on every seed",
                held=min(own) >= OF_LARGEST
                and all(mine > its for mine, its in zip(own, others, strict=True)),
                evidence=f"{spread(own, '.3f')}, depth {other} {spread(others, '.3f')}",
            )
        residuals = {depth: [row["residual"] for row in runs] for depth, runs in found.items()}
        yield Claim(
            claim=f"{problem}: at every depth the end is within {RESIDUAL:g} of a critical point",
            held=max(map(max, residuals.values())) <= RESIDUAL,
            evidence=", ".join(
                f"depth {depth}: {spread(values)}" for depth, values in residuals.items()
            ),
        )


def _layers(rows: list[Record]) -> Claim:
    first, last = (where(rows, step=pick(row["step"] for row in rows)) for pick in (min, max))
    outside, aligned = ([row[key] for row in last] for key in ("outside_rank_one", "least_aligned"))
    return Claim(
        claim="three unbalanced layers: each tends to rank one (a share of at most "
        f"{OUTSIDE:g} outside), and aligns with the next",
        held=max(outside) <= OUTSIDE and min(aligned) >= 1 - OUTSIDE,
        evidence=f"outside {spread([row['outside_rank_one'] for row in first])} at the start, "
        f"{spread(outside)} at the end; cosines {spread(aligned, '.6f')}",
    )


def _added(rows: list[Record]) -> Claim:
    first, last = (where(rows, step=pick(row["step"] for row in rows)) for pick in (min, max))
    share = [row["share"] for row in last]
    return Claim(
        claim="depths 1 and 3 added: the deeper takes over, the shallow one keeps less than "
        f"{100 * SHALLOW:g} % of the norm",
        held=max(share) < SHALLOW,
        evidence=f"{spread([row['share'] for row in first])} at the start, {spread(share)} at the "
        "end",
    )
