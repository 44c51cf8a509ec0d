"""What the convergence runs have to bear out: pure functions of their rows."""

import math
from collections.abc import Iterator

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, spread, where

PUBLISHED: list[Record] = [
    {"statement": "Theorem 1", "says": "margin and balance: linear convergence, with constants"},
    {"statement": "Lemma 1", "says": "each step takes at least its share off the loss"},
    {"statement": "Theorem 2", "says": "output dimension 1: constant probability"},
    {"statement": "Claim 4", "says": "a margin without balance can diverge"},
    {"statement": "Claim 5", "says": "identity, a negative eigenvalue, even N: never converges"},
    {"statement": "arXiv 1605.07110", "says": "the saddle at 0 is strict at N = 2, not at N >= 3"},
    {"statement": "section 5", "says": "balanced starts converge sooner, and over a wider range"},
]
# bound and steps of the scalar example in float64, counted independently
SCALAR_STEPS = {2: (534_215, 121_878), 3: (1_934_169, 285_359)}
FLOOR = 0.25
EXACT = 1e-10


def claims(rows: list[Record]) -> list[Claim]:
    """Judge the rows of every part."""
    parts = {part: of_part for (part,), of_part in grouped(rows, "part").items()}
    return [
        *_scalar(parts["scalar"]),
        _lemma(parts["Lemma 1"]),
        *_probability(parts["Theorem 2"]),
        *_unbalanced(parts["Claim 4"]),
        _identity(parts["Claim 5"]),
        _saddle(parts["saddle at 0"]),
        *_deviations(parts["section 5"]),
    ]


def _scalar(rows: list[Record]) -> Iterator[Claim]:
    for row in rows:
        yield Claim(
            claim=f"Theorem 1, scalar, depth {row['depth']}: converges within the bound, both "
            "numbers as counted before",
            held=(row["bound"], row["steps"]) == SCALAR_STEPS[row["depth"]],
            evidence=f"bound {row['bound']:,}, used {row['steps']:,}",
        )


def _lemma(rows: list[Record]) -> Claim:
    return Claim(
        claim="Lemma 1: no step takes less off the loss than promised, depth 2, 3, 4, 3000 steps",
        held=not any(row["violations"] for row in rows),
        evidence=", ".join(
            f"depth {row['depth']}: {row['violations']} of {row['steps_checked']} steps above "
            "rounding error"
            for row in rows
        ),
    )


def _probability(rows: list[Record]) -> Iterator[Claim]:
    small = [row for row in rows if row["deviation"].endswith("/ d")]
    yield Claim(
        claim="Theorem 2: with standard deviation a ||Phi|| / d, a = 0.1, 0.5, 1, a random "
        f"balanced start satisfies the theorem with probability above {FLOOR}, at d = 20 and 100",
        held=all(row["from"] > FLOOR for row in small),
        evidence=_intervals(small),
    )
    certified, converged = (
        sum(row[name] for row in rows) for name in ("certified", "certified_converged")
    )
    others = sum(row["others_converged"] for row in rows)
    yield Claim(
        claim="Theorem 2: every start that satisfies it converges, at a rate of 0.2, far above the "
        "theorem's",
        held=certified == converged > 0,
        evidence=f"{converged} of {certified}; and of those that do not satisfy it {others} more",
    )
    large = [row for row in rows if row not in small]
    yield Claim(
        claim="with 0.5 ||Phi|| / sqrt(d) the probability is not constant: it falls with d",
        held=large[1]["to"] < large[0]["from"],
        evidence=_intervals(large),
    )


def _intervals(rows: list[Record]) -> str:
    return ", ".join(
        f"d = {row['dimension']}, {row['deviation']}: {row['share']:.3f} [{row['from']:.3f}, "
        f"{row['to']:.3f}], exactly {row['exact']:.3f}"
        for row in rows
    )


def _unbalanced(rows: list[Record]) -> Iterator[Claim]:
    for (depth,), of_depth in grouped(rows, "depth").items():
        ends = {row["start"]: row for row in of_depth}
        unbalanced, balanced = ends["unbalanced"], ends["balanced"]
        yield Claim(
            claim=f"Claim 4, depth {depth}: of two starts with the same margin and learning rate "
            "the balanced one converges and the other diverges",
            held=unbalanced["margin"] > 0
            and unbalanced["loss"] == math.inf
            and balanced["loss"] < 1e-12,
            evidence=f"margin {unbalanced['margin']:g}, imbalance {unbalanced['imbalance']:.3g} "
            f"against delta = {unbalanced['delta']:.3g}; losses {balanced['loss']:.1e} and "
            f"{unbalanced['loss']:g}",
        )


def _identity(rows: list[Record]) -> Claim:
    return Claim(
        claim="Claim 5: from the identity towards diag(1, -1), even depth, no learning rate from "
        "0.001 to 1 brings the loss below 1/2",
        held=all(row["loss"] >= row["bound"] for row in rows),
        evidence=", ".join(f"depth {row['depth']}: {row['loss']:.9g}" for row in rows),
    )


def _saddle(rows: list[Record]) -> Claim:
    off = [
        abs(row["least_eigenvalue"] + (row["sigma_1"] if row["depth"] == 2 else 0)) for row in rows
    ]
    return Claim(
        claim="the least eigenvalue of the Hessian at 0 is -sigma_1 of the gradient at depth 2, "
        f"and 0 at depth 3 and 4, to {EXACT:g}",
        held=max(off) < EXACT,
        evidence=", ".join(
            f"depth {depth}: {spread([row['least_eigenvalue'] for row in of_depth])}"
            for (depth,), of_depth in grouped(rows, "depth").items()
        ),
    )


def _deviations(rows: list[Record]) -> Iterator[Claim]:
    for depth in (3, 8):
        layerwise, balanced = (
            where(rows, depth=depth, start=kind) for kind in ("layer-wise", "balanced")
        )
        pairs = [
            (
                row["deviation"],
                *(math.inf if n is None else n for n in (row["steps"], other["steps"])),
            )
            for row, other in zip(layerwise, balanced, strict=True)
        ]
        yield Claim(
            claim=f"section 5, depth {depth}: a balanced start takes no more iterations at any "
            "standard deviation",
            held=all(after <= before for _, before, after in pairs),
            evidence="layer-wise against balanced "
            + ", ".join(f"{s:g}: {before:g} / {after:g}" for s, before, after in pairs),
        )
    ends = {(row["depth"], row["start"], row["deviation"]): row["converged"] for row in rows}
    failing = {key: text for key, text in ends.items() if len(set(text.split(" of "))) > 1}
    yield Claim(
        claim="section 5: every balanced start converges, and not every layer-wise one",
        held=bool(failing) and all(kind == "layer-wise" for _, kind, _ in failing),
        evidence=", ".join(
            f"depth {depth}, {kind}, {s:g}: {text}" for (depth, kind, s), text in failing.items()
        )
        or "all converge",
    )
    yield Claim(
        claim="section 5: no best learning rate is at the grid's edge",
        held=all(row["inside"] for row in rows),
        evidence=f"{sum(row['inside'] for row in rows)} of {len(rows)} rows",
    )
