"""What the trajectories have to bear out: pure functions of their rows."""

from collections.abc import Iterator
from itertools import pairwise

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import listed, where

PUBLISHED: list[Record] = [
    {"example": "one measurement", "depth": depth, "s_1": first, "s_2": second}
    for depth, first, second in (
        (1, 2.2088, 3.6747),
        (2, 0.40429, 4.7574),
        (3, 0.09287, 4.9443),
        (4, 0.05491, 4.9671),
    )
]


def claims(measured: list[Record]) -> Iterator[Claim]:
    """Judge the rows."""
    example = where(measured, example="one measurement")
    for row, published in zip(example, PUBLISHED, strict=True):
        yield _example(row, published)
    trajectories = where(measured, example="completion")
    for row in trajectories:
        yield Claim(
            claim=f"depth {row['depth']}: trajectories of the single matrix, the explicit network "
            "and the theory lie within 5 % of the largest singular value",
            held=max(row["explicit_gap"], row["theory_gap"]) < 0.05,
            evidence=f"explicit {row['explicit_gap']:.1e}, theory {row['theory_gap']:.1e}",
        )
    ratios = [row["next_to_last"] for row in trajectories]
    yield Claim(
        claim="depth widens the gap between what grows and what stays small",
        held=all(a > b for a, b in pairwise(ratios)),
        evidence="(rank + 1)-th over rank-th singular value at the end, depth 1 to 4: "
        + listed(ratios, ".2e"),
    )


def _example(row: Record, published: Record) -> Claim:
    gaps = [
        abs(row["s_1"] / row["closed_form"] - 1),
        abs(row["s_1"] / published["s_1"] - 1),
        abs(row["s_2"] / published["s_2"] - 1),
    ]
    return Claim(
        claim=f"one measurement, depth {row['depth']}: closed form and published numbers met to "
        "1e-3",
        held=max(gaps) < 1e-3,
        evidence=f"(s_1, s_2) = ({row['s_1']:.5f}, {row['s_2']:.4f}), closed form "
        f"s_1 = {row['closed_form']:.5f}",
    )
