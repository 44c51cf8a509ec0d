"""What the runs have to bear out: pure functions of their rows."""

from collections.abc import Iterator
from itertools import pairwise

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import listed, where

PUBLISHED: list[Record] = [
    *(
        {
            "part": "components",
            "start": start,
            "error": error,
            "norms": "0.60, 0.59, 0.41, 0.31, 0.21",
            "source": "2102.09972, figure 1",
        }
        for start, error in ((5e-2, 0.08), (1e-2, 0.03), (5e-3, 0.005))
    ),
    {
        "part": "hierarchical",
        "start": 1e-2,
        "norms": "9.5, 4.8, 2.5, 1.5, 0.8",
        "source": "2201.11729, axes 1 2, width 512",
    },
    {
        "part": "ranks",
        "says": "deep: min(channels, dimension)^(order / 2); shallow: at most the channels",
        "source": "1509.05009, theorem 1",
    },
]
ERRORS = {row["start"]: row["error"] for row in PUBLISHED if row["part"] == "components"}
SLOPES = (0.9, 1.15)  # of the gap to the law, which falls with the rate as the gap of a run does


def claims(measured: list[Record], *, quick: bool) -> Iterator[Claim]:
    """Judge the rows; those of a quick run have no published counterpart but the ranks."""
    ranks = where(measured, part="ranks")
    yield Claim(
        claim="odd-even matricisation: the deep network reaches the theory's rank, the shallow one "
        "that of its channels",
        held=all(
            row["deep_odd_even"] == row["theory"] and row["shallow_odd_even"] == row["channels"]
            for row in ranks
        ),
        evidence=", ".join(
            f"order {row['order']}, dimension {row['dimension']}: {row['deep_odd_even']} against "
            f"{row['shallow_odd_even']}"
            for row in where(ranks, seed=ranks[0]["seed"])
        ),
    )
    if not quick:
        yield from map(_law, where(measured, part="law"))
        yield from _components(where(measured, part="components"))
        yield from _hierarchical(where(measured, part="hierarchical"))
        yield _least_squares(measured)


def _components(rows: list[Record]) -> Iterator[Claim]:
    for row in rows:
        yield Claim(
            claim=f"components from {row['start']:g}: an error of at most the published "
            f"{ERRORS[row['start']]:g}",
            held=row["error"] <= ERRORS[row["start"]],
            evidence=f"{row['error']:.2g} after {row['steps']} steps, "
            f"{row['share_left']:.1e} of the seen squares left",
        )
    yield Claim(
        claim="a smaller start ends nearer to the truth, from 0.05 to 0.01",
        held=rows[1]["error"] < rows[0]["error"],
        evidence=listed([row["error"] for row in rows], ".2g"),
    )
    yield _one_by_one("components", rows[-1])
    for row in rows[1:]:
        fifth, sixth = row["norms"][4:6]
        yield Claim(
            claim=f"components from {row['start']:g}: five grow, the sixth stays below a twentieth "
            "of the fifth",
            held=sixth < fifth / 20,
            evidence=f"{listed(row['norms'][:5], '.2f')}, then {sixth:.2g}",
        )


def _one_by_one(what: str, row: Record) -> Claim:
    ordered = sorted(row["rise_at_step"])
    return Claim(
        claim=f"{what} from {row['start']:g}, axes {row['axes']}: they rise one by one (at most "
        "two on their way from a tenth to nine tenths at one time)",
        held=row["most_at_once"] <= 2 and all(a < b for a, b in pairwise(ordered)),
        evidence=f"half of the end at steps {listed(ordered, 'd')}; at most "
        f"{row['most_at_once']} at once",
    )


def _law(row: Record) -> Claim:
    low, high = SLOPES
    return Claim(
        claim=f"law of norms, {row['kind']}: the largest gap to gradient descent falls with the "
        "rate, to first order",
        held=low <= row["slope"] <= high,
        evidence=f"slope {row['slope']:.3f}; gaps {listed(row['gaps'], '.2g')} of the largest norm "
        f"at rates {listed(row['rates'])}",
    )


def _hierarchical(rows: list[Record]) -> Iterator[Claim]:
    for row in rows:
        yield _one_by_one("local components", row)
    fifth, sixth = rows[0]["norms"][4:6]
    yield Claim(
        claim=f"local components, axes {rows[0]['axes']}: five grow, as published, the sixth stays "
        "below a tenth of the fifth",
        held=sixth < fifth / 10,
        evidence=f"{listed(rows[0]['norms'][:5], '.2f')}, then {sixth:.2g}",
    )


def _least_squares(measured: list[Record]) -> Claim:
    [row] = where(measured, part="least squares")
    others = where(measured, part="components")
    fastest = min(other["cpu_s"] for other in others)
    return Claim(
        claim="masked alternating least squares of the known rank completes the tensor with a "
        "smaller error in a tenth of the CPU time",
        held=row["error"] < min(other["error"] for other in others) and row["cpu_s"] < fastest / 10,
        evidence=f"error {row['error']:.1e} in {row['cpu_s']:.2g} CPU s, start {row['starts']}; "
        f"gradient descent {fastest:.0f} CPU s and more",
    )
