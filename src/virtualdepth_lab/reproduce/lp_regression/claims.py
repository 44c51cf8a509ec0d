"""What the regression runs have to bear out: pure functions of their rows."""

from collections.abc import Iterator
from itertools import pairwise

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped

_SECTION = "arXiv 1802.06509, section 8"
PUBLISHED: list[Record] = [
    {"source": _SECTION, "statement": "l_2: depth slows training down"},
    {"source": _SECTION, "statement": "l_4: depth trains much faster"},
    {"source": _SECTION, "statement": "l_4: depth surpasses AdaGrad and AdaDelta"},
    {"source": _SECTION, "statement": "the end-to-end rule moves as the explicit network does"},
]
DEPTHS = ("depth 1.5", "depth 2", "depth 3", "depth 4", "depth 8")
SGD, NORMALISED = "depth 1 (SGD)", "depth 1, scalar normaliser"
NO_GAIN, BORWEIN = "depth 2, gain divided out", "depth 1, Barzilai-Borwein"
TARGETS = ("to_1.1", "to_2", "to_3", "to_4", "to_5")
# loss over optimum on l_4 from near zero, of the prototype that chose these methods
PROTOTYPE = {
    SGD: 3.11,
    "depth 2": 2.15,
    "depth 3": 2.19,
    "Adam": 1.28,
    "AdaGrad": 3.05,
    "AdaDelta": 2.16,
    NORMALISED: 2.13,
    NO_GAIN: 3.78,
}


def toy_claims(rows: list[Record]) -> list[Claim]:
    """Judge the table of two samples, a claim for each case."""
    claims = []
    for (power, targets), table in grouped(rows, "power", "targets").items():
        steps = [row["steps"] for row in table]
        inside = None not in steps and all(row["inside"] for row in table)
        if power == 2:
            held = inside and all(a < b for a, b in pairwise(steps))
            claim = f"two samples, l_2, y = {targets}: the deeper, the more steps"
        else:
            held = inside and 2 * max(steps[1:]) <= steps[0]
            claim = f"two samples, l_{power}, y = {targets}: depths 2 and 3 take at most half"
        evidence = ", ".join(f"{row['steps']} ({row['from']} to {row['to']})" for row in table)
        claims.append(
            Claim(
                claim=claim,
                held=held,
                evidence=f"steps at depth 1, 2, 3, in brackets over further starts: {evidence}",
            )
        )
    return claims


def ethanol_claims(rows: list[Record]) -> list[Claim]:
    """Judge the runs on the ethanol data: a row for each power, start and method."""
    claims: list[Claim] = []
    for (power, start), of_start in grouped(rows, "power", "start").items():
        table = {row["method"]: row for row in of_start}
        label = f"ethanol, l_{power}, start {start}"
        claims += _slower(table, label) if power == 2 else _faster(table, label)
        claims += _common(table, label)
        if (power, start) == (4, "near zero"):
            claims.append(_prototype(table, label))
    return claims


def _ratio(table: dict[str, Record], *names: str) -> str:
    return ", ".join(f"{name} {table[name]['loss_over_optimum']:.4g}" for name in names)


def _best(table: dict[str, Record], name: str) -> float:
    return float(table[name]["loss_over_optimum"])


def _slower(table: dict[str, Record], label: str) -> Iterator[Claim]:
    for depth in ("depth 2", "depth 3"):
        yield Claim(
            claim=f"{label}: {depth} ends above depth 1 (published)",
            held=_best(table, depth) > _best(table, SGD),
            evidence=_ratio(table, SGD, depth),
        )


def _faster(table: dict[str, Record], label: str) -> Iterator[Claim]:
    target = next((name for name in TARGETS if table[SGD][name] is not None), None)
    for depth in ("depth 2", "depth 3"):
        if target is None:
            held, evidence = False, "depth 1 reaches none of the targets"
        else:
            slow, fast = table[SGD][target], table[depth][target]
            held = fast is not None and 2 * fast <= slow
            evidence = f"to {target[3:]} x the optimum {slow} at depth 1, {fast} at {depth}"
        yield Claim(
            claim=f"{label}: {depth} needs at most half the iterations of depth 1 to the lowest "
            "target that depth 1 reaches (published: much faster)",
            held=held,
            evidence=f"{evidence}; loss over optimum {_ratio(table, SGD, depth)}",
        )
    for rival in ("AdaGrad", "AdaDelta"):
        yield Claim(
            claim=f"{label}: depth 2 ends below {rival} (published)",
            held=_best(table, "depth 2") < _best(table, rival),
            evidence=_ratio(table, "depth 2", rival),
        )
    yield Claim(
        claim=f"{label}: no constant learning rate of any depth comes below twice the optimum",
        held=all(_best(table, name) >= 2 for name in (SGD, *DEPTHS)),
        evidence=_ratio(table, SGD, *DEPTHS),
    )
    yield Claim(
        claim=f"{label}: the gain of depth 2 is a step schedule: a scalar normaliser at depth 1 "
        "ends no more than 5 % above it, and with its gain divided out it ends above depth 1",
        held=_best(table, NORMALISED) <= 1.05 * _best(table, "depth 2")
        and _best(table, NO_GAIN) > _best(table, SGD),
        evidence=_ratio(table, SGD, "depth 2", NORMALISED, NO_GAIN, "depth 1, gain of depth 2"),
    )


def _common(table: dict[str, Record], label: str) -> Iterator[Claim]:
    for depth in ("depth 2", "depth 3"):
        network = f"explicit network, {depth}"
        yield Claim(
            claim=f"{label}: {depth} as one vector ends within 5 % of the {network} (published: "
            "they move alike)",
            held=abs(_best(table, depth) / _best(table, network) - 1) <= 0.05,
            evidence=_ratio(table, depth, network),
        )
    yield Claim(
        claim=f"{label}: Barzilai-Borwein steps at depth 1, and L-BFGS, end below every depth",
        held=max(_best(table, BORWEIN), _best(table, "L-BFGS"))
        < min(_best(table, depth) for depth in DEPTHS),
        evidence=_ratio(table, BORWEIN, "L-BFGS", *DEPTHS),
    )
    outside = [name for name, row in table.items() if row.get("inside") is False]
    yield Claim(
        claim=f"{label}: every best learning rate is inside its grid",
        held=not outside,
        evidence=", ".join(outside) or f"{sum('inside' in row for row in table.values())} grids",
    )


def _prototype(table: dict[str, Record], label: str) -> Claim:
    return Claim(
        claim=f"{label}: an earlier prototype's losses over optimum are met to 5 %",
        held=all(abs(_best(table, name) / value - 1) <= 0.05 for name, value in PROTOTYPE.items()),
        evidence=", ".join(
            f"{name} {_best(table, name):.4g} against {value:g}"
            for name, value in PROTOTYPE.items()
        ),
    )
