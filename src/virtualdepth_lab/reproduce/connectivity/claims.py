"""What the paths have to bear out: pure functions of their rows."""

from collections.abc import Iterator

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, spread, where

PUBLISHED: list[Record] = [
    {
        "statement": "Theorem 1",
        "says": "two dropout-stable networks are joined by a path whose loss exceeds the larger "
        "end by no more than what half of a network loses",
    },
    {
        "statement": "linear networks",
        "says": "known before: all minima of wide linear networks are connected",
    },
]
ROUNDING = 1e-12  # of a loss of order 1
SLOPE = 0.1  # how far a slope may be off


def claims(measured: list[Record], *, quick: bool) -> Iterator[Claim]:
    """Judge the rows; a quick run trains the ReLU networks too little for a claim."""
    linear = where(measured, part="linear")
    yield Claim(
        claim="linear networks: no loss on the path exceeds the larger end by more than rounding",
        held=all(row["path"] <= max(row["ends"]) + ROUNDING for row in linear),
        evidence=f"{len(linear)} pairs, ends {spread([max(row['ends']) for row in linear])}, "
        f"highest {spread([row['path'] for row in linear])}",
    )
    yield Claim(
        claim="linear networks: the straight line rises above 0.1",
        held=all(row["straight_line"] > 0.1 for row in linear),
        evidence=f"highest {spread([row['straight_line'] for row in linear])}",
    )
    yield Claim(
        claim="the largest step falls as 1 over the number of points",
        held=all(abs(row["slope"] + 1) < SLOPE for row in linear),
        evidence=f"slopes {spread([row['slope'] for row in linear], '.3f')}",
    )
    for (hidden,), rows in grouped(where(measured, part="lower rank"), "hidden").items():
        depth = len(hidden.split()) + 1
        yield Claim(
            claim=f"widths {hidden}: through a matrix of lower rank it falls as points to the "
            f"power -1/{depth}",
            held=all(abs(row["slope"] + 1 / depth) < SLOPE for row in rows),
            evidence=f"slopes {spread([row['slope'] for row in rows], '.3f')}",
        )
    if not quick:
        yield from _relu(where(measured, part="ReLU"))


def _relu(rows: list[Record]) -> Iterator[Claim]:
    line = where(rows, way="straight line")
    for way in ("halves, doubled", "halves, trained"):
        paths = where(rows, way=way)
        yield Claim(
            claim=f"ReLU networks, {way}: the highest loss on the path is below that of the "
            "straight line",
            held=all(
                path["highest"] < other["highest"] for path, other in zip(paths, line, strict=True)
            ),
            evidence=", ".join(
                f"width {path['width']}, seed {path['seed']}: {path['highest']:.2g} against "
                f"{other['highest']:.2g}"
                for path, other in zip(paths, line, strict=True)
            ),
        )
    trained = where(rows, way="halves, trained")
    yield Claim(
        claim="ReLU networks, halves, trained: the highest loss exceeds the larger end by at most "
        "0.01",
        held=all(row["highest"] <= max(row["ends"]) + 0.01 for row in trained),
        evidence=", ".join(
            f"width {row['width']}, seed {row['seed']}: {row['highest']:.2g}, ends "
            f"{spread(row['ends'])}"
            for row in trained
        ),
    )
