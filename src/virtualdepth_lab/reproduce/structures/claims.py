"""What the runs have to bear out: pure functions of their rows."""

import itertools
from collections.abc import Iterator
from statistics import fmean, median

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, listed, spread, where
from virtualdepth_lab.reproduce.structures.slopes import slope

PUBLISHED: list[Record] = [
    {"source": "arXiv 1806.00468", "statement": "elementwise and circular layers: few entries and "
     "few frequencies"},
    {"source": "arXiv 2002.09277", "statement": "u^2 - v^2 is a rule on w, from small starts to "
     "the least l_1 norm"},
    {"source": "arXiv 2409.14623", "statement": "imbalance leads from rich to lazy: the tangent "
     "kernel turns less"},
    {"source": "arXiv 0711.1612", "statement": "reweighting finds more signals than the least l_1 "
     "norm"},
]  # fmt: skip
KINDS = {"diagonal": "entries", "rows": "groups", "circulant": "frequencies"}
EXACT = 1e-9


def claims(measured: list[Record]) -> Iterator[Claim]:
    """Judge the rows of every part."""
    parts = {part: rows for (part,), rows in grouped(measured, "part").items()}
    yield from _slopes(parts["slopes"])
    yield from _recovery(parts["recovery"])
    yield from _features(parts["features"])
    yield from _lazy(parts["lazy to rich"])
    yield _width(parts["infinite width"])


def _slopes(rows: list[Record]) -> Iterator[Claim]:
    for (structure,), of_structure in grouped(rows, "structure").items():
        slopes = [row["slope"] for row in of_structure]
        yield Claim(
            claim=f"{structure}: the gap to the explicit network falls with the learning rate",
            held=min(slopes) >= 0.9 and max(slopes) <= 1.1,
            evidence=f"slopes {spread(slopes, '.3f')}",
        )
    for name in ("wrong_depth", "wrong_imbalance"):
        # both at the larger rate: the gap of the right rule would halve with it
        ratios = [row[name] / row["gaps"][0] for row in rows if row[name] is not None]
        yield Claim(
            claim=f"control: a {name.replace('_', ' ')} leaves a gap more than 5 times as large",
            held=min(ratios) > 5,
            evidence=f"{spread(ratios)} times",
        )


def _recovery(rows: list[Record]) -> Iterator[Claim]:
    for (structure,), of_structure in grouped(rows, "structure").items():
        share = {
            method: fmean(row["share"] for row in of_method)
            for (method,), of_method in grouped(of_structure, "method").items()
        }
        evidence = ", ".join(f"{method} {value:.3f}" for method, value in share.items())
        deep = max(share["depth 3"], share["depth 4"])
        yield Claim(
            claim=f"few {KINDS[structure]}: depth 2 finds a larger share than depth 1",
            held=share["depth 2"] > share["depth 1"],
            evidence=evidence,
        )
        yield Claim(
            claim=f"few {KINDS[structure]}: depth 3 or 4 finds at least the share of the convex "
            "programme, less 5 %",
            held=deep > share["convex"] - 0.05,
            evidence=evidence,
        )
        yield Claim(
            claim=f"few {KINDS[structure]}: the reweighted programme finds a larger share than "
            "every depth",
            held=share["reweighted"] > max(share["depth 2"], deep),
            evidence=evidence,
        )


def _features(rows: list[Record]) -> Iterator[Claim]:
    errors = {
        method: [row["test_mse"] for row in of_method]
        for (method,), of_method in grouped(rows, "method").items()
    }
    middle = {method: median(values) for method, values in errors.items()}
    evidence = ", ".join(f"{method} {value:.3f}" for method, value in middle.items())
    columns = middle["columns, depth 3"]
    yield Claim(
        claim="features: columns of depth 3 end a fifth below the test error of Adam and of SGD",
        held=columns < 0.8 * min(middle["Adam"], middle["SGD"]),
        evidence=evidence,
    )
    yield Claim(
        claim="features: columns of depth 3 come within a quarter of the tuned group penalty",
        held=columns < 1.25 * middle["Adam, group penalty"],
        evidence=evidence,
    )


def _lazy(rows: list[Record]) -> Iterator[Claim]:
    for (depth,), of_depth in grouped(rows, "depth").items():
        middle = [
            median(row["kernel_distance"] for row in of_imbalance)
            for _, of_imbalance in sorted(grouped(of_depth, "imbalance").items())
        ]
        falls = all(after < before for before, after in itertools.pairwise(middle))
        yield Claim(
            claim=f"depth {depth}: the larger the imbalance, the less the kernel turns, to less "
            "than a thousandth of the most (published at two layers)",
            held=falls and middle[-1] < 1e-3 * middle[0],
            evidence=f"distances {listed(middle)}",
        )
    apart = max(row["kernels_apart"] for row in rows)
    ends = max(abs(row["kernel_distance"] - row["of_the_network"]) for row in rows)
    yield Claim(
        claim="the matrix of P_W is the tangent kernel of the explicit network",
        held=apart < EXACT and ends < 0.02,
        evidence=f"relative difference at the start {apart:.1e}, of the distances at the end "
        f"{ends:.1e}",
    )


def _width(rows: list[Record]) -> Claim:
    widths = sorted({row["width"] for row in rows})
    gaps = [fmean(row["gap"] for row in where(rows, width=width)) for width in widths]
    power = slope(widths, gaps)
    balanced = min(row["gap_without_imbalance"] for row in rows)
    return Claim(
        claim="two Gaussian layers tend to the rule with imbalance 2 s^2 width as width^(-1/2), "
        "and not to the balanced rule",
        held=-0.65 < power < -0.35 and balanced > 5 * gaps[-1],
        evidence=f"power {power:.3f}, gaps {listed(gaps)}; balanced rule at least {balanced:.2g}",
    )
