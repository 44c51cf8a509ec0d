"""What the table has to bear out: pure functions of its rows."""

from collections.abc import Iterator
from statistics import median

from virtualdepth_lab.reproduce.matrix_completion.methods import (
    AUTO,
    EXPLICIT,
    FAST,
    FLOW,
    NUCLEAR,
    SINGLE,
    TRUTH,
)
from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, listed, where

PUBLISHED: list[Record] = [
    {"observed": 5000, "method": NUCLEAR, "error": 8e-7, "nuclear_norm": 221, "effective_rank": 5},
    *(
        {"observed": 5000, "method": EXPLICIT, "depth": depth, "error": error}
        | {"nuclear_norm": 221, "effective_rank": 5}
        for depth, error in ((2, 5e-6), (3, 4e-6), (4, 4e-6))
    ),
    {"observed": 2000, "method": NUCLEAR, "error": 1e-1, "nuclear_norm": 210, "effective_rank": 9},
    *(
        {"observed": 2000, "method": EXPLICIT, "depth": depth, "error": error}
        | {"nuclear_norm": norm, "effective_rank": rank}
        for depth, error, norm, rank in ((2, 2e-2, 217, 7), (3, 3e-5, 221, 5), (4, 2e-5, 221, 5))
    ),
]
MOST_EVALUATIONS = {2: 400, 3: 600, 4: 1400}
LEAST_SPEEDUP = {
    AUTO: {2: 6, 3: 6, 4: 6},
    FLOW: {2: 40, 3: 40, 4: 15},
    FAST: {2: 40, 3: 40, 4: 15},
}
LARGEST_DISTANCE = {SINGLE: 1e-3, FLOW: 1e-3, AUTO: 1e-2}


def summary(measured: list[Record]) -> list[Record]:
    """Return medians over seeds, with the range of the error."""
    table = []
    for key, rows in grouped(measured, "size", "observed", "method", "depth").items():
        errors = [row["error"] for row in rows]
        line: Record = dict(zip(("size", "observed", "method", "depth"), key, strict=True))
        line |= {"error": median(errors), "from": min(errors), "to": max(errors)}
        for name in ("nuclear_norm", "effective_rank", "evaluations", "cpu_seconds"):
            if name in rows[0]:
                line[name] = median(row[name] for row in rows)
        table.append(line | {"finished": sum(row.get("finished", True) for row in rows)})
    return table


def claims(measured: list[Record], distances: list[Record]) -> list[Claim]:
    """Judge the rows of all runs, and the rows that compare ends."""
    found = [_nuclear_norm_fails(measured)]
    for method in (EXPLICIT, FLOW, FAST, AUTO):
        found += [_recovers(measured, method, depth) for depth in (3, 4)]
    found += list(_speed(measured))
    found += list(_few_evaluations(measured))
    found += [_near(row) for row in distances if row["method"] in LARGEST_DISTANCE]
    return found


def _of(rows: list[Record], method: str, observed: int, depth: object, name: str) -> list[float]:
    chosen = where(rows, method=method, observed=observed, depth=depth)
    return [float(row[name]) for row in chosen]


def _nuclear_norm_fails(rows: list[Record]) -> Claim:
    errors = _of(rows, NUCLEAR, 2000, None, "error")
    gaps = _of(rows, NUCLEAR, 2000, None, "gap")
    return Claim(
        claim="at 2000 observed, nuclear norm minimisation visibly fails (error above 1e-2)",
        held=min(errors) > 1e-2 and max(gaps) < 1e-3,
        evidence=f"errors {listed(errors)}, duality gaps up to {max(gaps):.1e}",
    )


def _recovers(rows: list[Record], method: str, depth: int) -> Claim:
    errors, norms, ranks = (
        _of(rows, method, 2000, depth, name) for name in ("error", "nuclear_norm", "effective_rank")
    )
    # 5.0 in the source, where the matrix's own is 5.0; it varies with the draw
    true_ranks = _of(rows, TRUTH, 2000, None, "effective_rank")
    excess = [rank - true for rank, true in zip(ranks, true_ranks, strict=True)]
    good = median(errors) <= 3e-5 and abs(median(excess)) <= 0.1
    return Claim(
        claim=f"at 2000 observed, {method}, depth {depth}: median error at most 3e-5, effective "
        "rank within 0.1 of the matrix's own",
        held=good,
        evidence=f"errors {listed(errors)}, effective ranks {listed(ranks)} for "
        f"{listed(true_ranks)}, nuclear norms {listed(norms)}",
    )


def _speed(rows: list[Record]) -> Iterator[Claim]:
    for method, factors in LEAST_SPEEDUP.items():
        for observed in (2000, 5000, 1000):  # the last of a smaller matrix
            for depth, factor in factors.items():
                loop, fast = (
                    _of(rows, name, observed, depth, "cpu_seconds") for name in (EXPLICIT, method)
                )
                slow_error, error = (
                    median(_of(rows, name, observed, depth, "error")) for name in (EXPLICIT, method)
                )
                ratios = [a / b for a, b in zip(loop, fast, strict=True)]
                yield Claim(
                    claim=f"at {observed} observed, {method}, depth {depth}, takes at least "
                    f"{factor} times less CPU than the published loop, at no worse median error",
                    held=median(ratios) >= factor and error <= slow_error,
                    evidence=f"ratios {listed(ratios)}, errors {error:.1e} and {slow_error:.1e}",
                )


def _few_evaluations(rows: list[Record]) -> Iterator[Claim]:
    for depth, most in MOST_EVALUATIONS.items():
        counts = _of(rows, AUTO, 2000, depth, "evaluations")
        yield Claim(
            claim=f"at 2000 observed, {AUTO}, depth {depth}: at most {most} gradients",
            held=max(counts) <= most,
            evidence=listed(counts, ".0f"),
        )


def _near(row: Record) -> Claim:
    bound = LARGEST_DISTANCE[row["method"]]
    return Claim(
        claim=f"{row['method']}, depth {row['depth']}, ends within {bound:g} of the "
        f"{row['distance_to']}",
        held=row["distance"] <= bound,
        evidence=f"relative distance {row['distance']:.1e}",
    )
