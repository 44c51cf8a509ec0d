"""What the matrix completion table has to bear out: pure functions of its rows."""

from collections.abc import Iterator
from statistics import median

from virtualdepth_lab.reproduce.result import Claim, Record

TRUTH = "the matrix itself"
NUCLEAR = "nuclear norm minimisation"
EXPLICIT = "explicit network, published loop"
SINGLE = "one matrix, published step rule"
FLOW = "one matrix, flow integrator"
FAST = "one matrix, flow, then L-BFGS"
AUTO = "one matrix, no learning rate"

MOST_EVALUATIONS = {2: 400, 3: 600, 4: 1400}
LEAST_SPEEDUP = {
    AUTO: {2: 6, 3: 6, 4: 6},
    FLOW: {2: 40, 3: 40, 4: 15},
    FAST: {2: 40, 3: 40, 4: 15},
}
LARGEST_DISTANCE = {SINGLE: 1e-3, FLOW: 1e-3, AUTO: 1e-2}


def claims(measured: list[Record], distances: list[Record]) -> list[Claim]:
    """Judge the rows.

    Args:
        measured: one row for each method, depth, number observed and seed.
        distances: rows that compare ends.

    Returns:
        Claims, each with its numbers.
    """
    found = [_nuclear_norm_fails(measured)]
    for method in (EXPLICIT, FLOW, FAST, AUTO):
        found += [_recovers(measured, method, depth) for depth in (3, 4)]
    found += list(_speed(measured))
    found += list(_few_evaluations(measured))
    found += [_near(row) for row in distances if row["method"] in LARGEST_DISTANCE]
    return found


def _of(rows: list[Record], method: str, observed: int, depth: object, name: str) -> list[float]:
    return [
        float(row[name])
        for row in rows
        if (row["method"], row["observed"], row.get("depth")) == (method, observed, depth)
    ]


def _nuclear_norm_fails(rows: list[Record]) -> Claim:
    errors = _of(rows, NUCLEAR, 2000, None, "error")
    gaps = _of(rows, NUCLEAR, 2000, None, "gap")
    return Claim(
        claim="at 2000 observed, nuclear norm minimisation visibly fails (error above 1e-2)",
        held=min(errors) > 1e-2 and max(gaps) < 1e-3,
        evidence=f"errors {_list(errors)}, duality gaps up to {max(gaps):.1e}",
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
        evidence=f"errors {_list(errors)}, effective ranks {_list(ranks)} for {_list(true_ranks)}, "
        f"nuclear norms {_list(norms)}",
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
                    evidence=f"ratios {_list(ratios)}, errors {error:.1e} and {slow_error:.1e}",
                )


def _few_evaluations(rows: list[Record]) -> Iterator[Claim]:
    for depth, most in MOST_EVALUATIONS.items():
        counts = _of(rows, AUTO, 2000, depth, "evaluations")
        yield Claim(
            claim=f"at 2000 observed, {AUTO}, depth {depth}: at most {most} gradients",
            held=max(counts) <= most,
            evidence=f"{', '.join(f'{count:.0f}' for count in counts)}",
        )


def _near(row: Record) -> Claim:
    bound = LARGEST_DISTANCE[row["method"]]
    return Claim(
        claim=f"{row['method']}, depth {row['depth']}, ends within {bound:g} of the "
        f"{row['distance_to']}",
        held=row["distance"] <= bound,
        evidence=f"relative distance {row['distance']:.1e}",
    )


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
