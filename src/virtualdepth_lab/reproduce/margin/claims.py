"""What the directions have to bear out: pure functions of rows and curves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from virtualdepth_lab.reproduce.margin.methods import PER_DECADE
from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, spread

PUBLISHED: list[Record] = [
    {"source": "arXiv 1710.10345", "depth": "1", "direction tends to": "the maximum margin's"},
    {"source": "arXiv 1810.02032", "depth": "any", "direction tends to": "the maximum margin's"},
]
# what the claims ask of the end; bounds written before the first run
ANGLE, SHORTFALL, APART = 0.01, 0.001, 0.05

Curves = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]


def curve_name(row: Record) -> str:
    """Return the name under which the curves of a row are kept."""
    return f"{row['problem']}, seed {row['seed']}, {row['network']}, depth {row['depth']}"


def claims(measured: list[Record], curves: Curves) -> Iterator[Claim]:
    """Judge the rows; ``curves`` holds norms, angles and shortfalls by :func:`curve_name`."""
    runs = grouped(measured, "network", "depth")
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
