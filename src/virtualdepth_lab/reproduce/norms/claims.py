"""What the flows have to bear out: pure functions of their rows."""

from collections.abc import Iterator
from itertools import pairwise

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, listed

PUBLISHED: list[Record] = [
    {"problem": "commuting", "depth": "every N >= 2", "finds": "the smallest nuclear norm"},
    {"problem": "contradiction", "depth": "every N >= 2", "finds": "not the smallest Schatten-p"},
]
MOST_EXCESS = 0.02
SLACK = 2e-3  # how much of the norm the remaining loss can hide
LEAST_SCHATTEN = 2.2 * 1.1  # 10 % above the smallest


def claims(measured: list[Record]) -> Iterator[Claim]:
    """Judge the rows."""
    ends: list[Record] = []
    for (depth,), rows in grouped(measured, "depth").items():
        smallest = min(row["alpha"] for row in rows)
        last = [row for row in rows if row["alpha"] == smallest]
        yield _approaches(depth, smallest, rows, [row["excess"] for row in last])
        ends += last
    quasi_norms = [row["schatten"] for row in ends if "schatten" in row]
    yield Claim(
        claim="where the two norms contradict each other, the solution found does not have the "
        "smallest Schatten-2/3 quasi-norm",
        held=min(quasi_norms) > LEAST_SCHATTEN,
        evidence=f"quasi-norm {listed(quasi_norms, '.3f')} against 2.2",
    )


def _approaches(depth: int, alpha: float, rows: list[Record], last: list[float]) -> Claim:
    falls = all(
        after["excess"] < before["excess"] + SLACK
        for before, after in pairwise(rows)
        if after["alpha"] < before["alpha"]
    )
    return Claim(
        claim=f"depth {depth} approaches the smallest nuclear norm as alpha falls, to 2 % at "
        f"alpha = {alpha:g}",
        held=falls and max(map(abs, last)) < MOST_EXCESS,
        evidence=f"excess {listed(last, '.1e')}",
    )
