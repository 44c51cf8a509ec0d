"""No regulariser makes gradient descent on one matrix do what depth does: the rule has curl.

Source: arXiv 1802.06509, Theorem 2 and section 6.
"""

from dataclasses import asdict

import torch
from matplotlib.figure import Figure

from virtualdepth_lab.reproduce.no_regulariser.cases import (
    SIZE,
    away_from_zero,
    constant_gradient,
    near_zero,
    three_outputs,
)
from virtualdepth_lab.reproduce.result import (
    Claim,
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "The curl of the field F(W) = P_W(grad l(W)), and its work around a closed curve: a gradient "
    "field has neither, so where they are not 0 no regulariser added to l gives the rule. Curls "
    "are relative: the Frobenius norm over ||W||^{1-2/N} ||grad l||."
)
PUBLISHED: list[Record] = [
    {"depth": "N > 2", "says": "no regulariser: not the gradient of any function near W = 0"},
    {"depth": 2, "says": "constant gradient, one output: curl 0"},
]
DEPTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
ZERO = 1e-12


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Measure curls and work.

    Args:
        config: seeds of weights and losses; the first alone if quick.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        One row for each case, depth and seed.
    """
    seeds = config.seeds[:1] if config.quick else config.seeds
    measured: list[Record] = []
    for case in (constant_gradient, near_zero, away_from_zero, three_outputs):
        progress(case.__name__.replace("_", " "))
        measured += [keep(row) for seed in seeds for depth in DEPTHS for row in case(seed, depth)]
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64", "inputs": SIZE},
        published=PUBLISHED,
        measured=measured,
        claims=_claims(measured),
        summary=_summary(measured),
    )


def _summary(measured: list[Record]) -> list[Record]:
    """Take the range over seeds, at the depths of explicit networks."""
    table: dict[tuple[object, ...], list[Record]] = {}
    for row in measured:
        if row["depth"] in (1, 2, 3, 4):
            table.setdefault((row["part"], row["depth"], row.get("norm")), []).append(row)
    lines = []
    for (part, depth, norm), rows in table.items():
        curls = [row["curl"] for row in rows]
        line: Record = {"part": part, "depth": depth} | ({"norm": norm} if norm else {})
        line |= {"curl_from": min(curls), "curl_to": max(curls)}
        if "work" in rows[0]:
            line["most_work"] = max(abs(row["work"]) for row in rows)
        lines.append(line)
    return lines


def _claims(measured: list[Record]) -> list[Claim]:
    constant, near, curved, outputs = (
        [row for row in measured if row["part"] == part]
        for part in dict.fromkeys(row["part"] for row in measured)
    )
    near = [row for row in near if row["norm"] == 1e-4]

    def of(rows: list[Record], name: str, *depths: float) -> list[float]:
        return [abs(row[name]) for row in rows if row["depth"] in depths]

    closed = [abs(row["curl"] - row["closed_form"]) for row in constant]
    tends = [abs(row["curl"] - row["closed_form"]) for row in near if row["depth"] in (3, 4)]
    return [
        Claim(
            claim="one output, constant gradient, N = 2: curl 0, and no work around a closed curve",
            held=max(of(constant, "curl", 2)) < ZERO and max(of(constant, "work", 2)) < ZERO,
            evidence=f"curl up to {max(of(constant, 'curl', 2)):.1e}, work up to "
            f"{max(of(constant, 'work', 2)):.1e}",
        ),
        Claim(
            claim="one output, constant gradient, N = 3, 4: neither is 0, so no regulariser gives "
            "the rule (published)",
            held=min(of(constant, "curl", 3, 4)) > 1e-2 and min(of(constant, "work", 3, 4)) > 1e-3,
            evidence=f"curl from {min(of(constant, 'curl', 3, 4)):.2g}, work from "
            f"{min(of(constant, 'work', 3, 4)):.2g}",
        ),
        Claim(
            claim="the curl is (N - 1)(N - 2)/N times a factor of the angle, at every real depth",
            held=max(closed) < 1e-10,
            evidence=f"closed form met to {max(closed):.1e}",
        ),
        Claim(
            claim="squared error near W = 0, N = 3, 4: the curl tends to that of the gradient at 0 "
            "(published: for every loss whose gradient at 0 is not 0)",
            held=max(tends) < 1e-2 and min(of(near, "curl", 3, 4)) > 1e-2,
            evidence=f"difference up to {max(tends):.1e} at ||W|| = 1e-4, curl from "
            f"{min(of(near, 'curl', 3, 4)):.2g}",
        ),
        Claim(
            claim="N = 2 is no gradient in general: the curl is not 0 for a curved loss, nor for "
            "three outputs; N = 1 always is one",
            held=min(of(curved, "curl", 2) + of(outputs, "curl", 2)) > 1e-2
            and max(of(measured, "curl", 1)) < ZERO,
            evidence=f"N = 2 from {min(of(curved, 'curl', 2)):.2g} and "
            f"{min(of(outputs, 'curl', 2)):.2g}; N = 1 up to {max(of(measured, 'curl', 1)):.1e}",
        ),
    ]


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw curl and work against depth.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    constant = [row for row in result.measured if "work" in row]
    seeds = list(dict.fromkeys(row["seed"] for row in constant))
    for seed, colour in zip(seeds, _colours(len(seeds)), strict=True):
        rows = [row for row in constant if row["seed"] == seed]
        angle = next(row["closed_form"] for row in rows if row["depth"] == 4) / 1.5
        depths = torch.linspace(1, 8, 200)
        form = angle * ((depths - 1) * (depths - 2) / depths).abs()
        left.plot(depths, form, color=colour, linewidth=1)
        points = [row["depth"] for row in rows]
        left.plot(points, [row["curl"] for row in rows], "o", color=colour, label=f"seed {seed}")
        right.plot(points, [row["work"] for row in rows], "o-", color=colour, linewidth=1)
    left.set(title="curl: measured (points), closed form (lines)", ylabel="relative curl")
    right.set(title="work around a closed curve", ylabel="relative work")
    for ax in (left, right):
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set_xlabel("depth N")
        ax.grid(color="0.9")
    left.legend(frameon=False)
    return {
        "One output, constant gradient: curl of the rule's field at random weights, and its work "
        "around a circle in the plane of weight and gradient. Both are 0 at depth 1 and 2.": figure
    }


def _colours(count: int) -> list[str]:
    palette = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7")
    return [palette[index % len(palette)] for index in range(count)]
