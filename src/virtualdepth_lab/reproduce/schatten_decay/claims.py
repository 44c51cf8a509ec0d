"""What paths and times have to bear out: pure functions of their rows."""

from statistics import fmean

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, listed, spread, where

PUBLISHED: list[Record] = [
    {"depth": 2, "says": "L2 on both factors is the nuclear norm of the product (cs/0408011)"},
    {"depth": "N", "says": "L2 on N factors is a Schatten-2/N quasi-norm (1606.00668)"},
]


def best_of(rows: list[Record]) -> Record:
    """Average over seeds what a method finds at the decay with the least error."""
    best = [min(path, key=lambda row: row["error"]) for path in grouped(rows, "seed").values()]
    return {name: fmean(row[name] for row in best) for name in ("share", "rank", "error")}


def summary(measured: list[Record]) -> list[Record]:
    """Average the paths over seeds; keep the times."""
    lines: list[Record] = []
    for (share, method), rows in grouped(where(measured, part="path"), "share", "method").items():
        line: Record = {"part": "path", "share": share, "method": method}
        line |= {name: fmean(row[name] for row in rows) for name in ("rank", "error")}
        if "from_convex" in rows[0]:
            line["from_convex"] = max(row["from_convex"] for row in rows)
        lines.append(line)
    for (method,), rows in grouped(where(measured, part="path"), "method").items():
        lines.append({"part": "at the decay of least error", "method": method} | best_of(rows))
    return lines + where(measured, part="time")


def claims(measured: list[Record]) -> list[Claim]:
    """Judge the rows."""
    path = where(measured, part="path")
    apart = [row["from_convex"] for row in where(path, method="depth 2")]
    two, three, four = (best_of(where(path, method=f"depth {depth}")) for depth in (2, 3, 4))
    ranks = listed((best["rank"] for best in (two, three, four)), ".2g")
    errors = listed((best["error"] for best in (two, three, four)), ".3g")
    times = grouped(where(measured, part="time"), "share")
    ratios = [
        row["milliseconds"] / other["milliseconds"]
        for other, row in times.values()
        if row["milliseconds"] is not None
    ]
    return [
        Claim(
            claim="depth 2 with decay ends at the convex programme's solution, at every decay",
            held=max(apart) < 1e-4,
            evidence=f"relative distance {spread(apart, '.1e')}",
        ),
        Claim(
            claim="at the decay of least error depths 3 and 4 have a smaller rank than depth 2",
            held=max(three["rank"], four["rank"]) < two["rank"],
            evidence=f"mean rank {ranks} at depth 2, 3, 4",
        ),
        Claim(
            claim="at the decay of least error depths 3 and 4 have a smaller error than depth 2",
            held=max(three["error"], four["error"]) < two["error"],
            evidence=f"mean relative error {errors} at depth 2, 3, 4",
        ),
        Claim(
            claim="the accelerated proximal method is faster than depth 2 at every decay",
            held=len(ratios) < len(times) or min(ratios) > 1,
            evidence=f"depth 2 takes {spread(ratios) if ratios else '-'} times as long, and does "
            f"not arrive at {len(times) - len(ratios)} of {len(times)} decays",
        ),
    ]
