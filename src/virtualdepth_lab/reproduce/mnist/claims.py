"""What the MNIST curves have to bear out: pure functions of rows and curves."""

from collections.abc import Iterator, Sequence
from statistics import mean

from virtualdepth_lab.reproduce.mnist.problem import BALANCED_START, DRAWN_START, PLAIN, VIRTUAL
from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import where

Pair = tuple[Sequence[float], Sequence[float]]

PUBLISHED: list[Record] = [
    {
        "network": "explicit, two matrices in each dense layer",
        "added parameters": "roughly 15 %",
        "optimization": "accelerated by orders of magnitude",
    }
]
TUTORIAL, BEST = "the tutorial's rate", "each network's best rate"
ORDER_OF_MAGNITUDE = 10
LEAST_ADDED, MOST_ADDED = 0.14, 0.17  # "roughly 15 %"
# how much virtual and explicit depth may differ in mean loss: momentum is not the same
NEAR = 0.05


def claims(measured: Sequence[Record], followed: Sequence[Pair]) -> list[Claim]:
    """Judge the published statement, and what this package adds to it.

    ``followed`` holds, for each seed, the losses of virtual and explicit depth from one start at
    one learning rate.
    """
    return [
        _added(measured),
        *_published(measured),
        *_sooner(measured),
        _free(measured),
        _follows(followed),
    ]


def _of(measured: Sequence[Record], setting: str, kind: str) -> list[Record]:
    return where(measured, setting=setting, network=kind)


def _added(measured: Sequence[Record]) -> Claim:
    plain, explicit = (_of(measured, BEST, kind)[0]["parameters"] for kind in (PLAIN, DRAWN_START))
    added = explicit / plain - 1
    return Claim(
        claim="published: explicit depth adds roughly 15 % in parameters",
        held=LEAST_ADDED < added < MOST_ADDED,
        evidence=f"{plain:,} and {explicit:,}: {100 * added:.1f} %",
    )


def _published(measured: Sequence[Record]) -> Iterator[Claim]:
    for setting in (TUTORIAL, BEST):
        ratios = _ratios(measured, setting, DRAWN_START, "steps_to_plain")
        yield Claim(
            claim="published: with explicit depth, drawn as the tutorial draws, optimization "
            f"accelerates by orders of magnitude, here at least {ORDER_OF_MAGNITUDE} times fewer "
            f"steps to the plain network's last loss, at {setting}",
            held=all(ratio is not None and ratio >= ORDER_OF_MAGNITUDE for ratio in ratios),
            evidence=_factors(ratios),
        )


def _sooner(measured: Sequence[Record]) -> Iterator[Claim]:
    cases = (
        (DRAWN_START, "steps_to_plain"),
        (BALANCED_START, "steps_to_plain"),
        (VIRTUAL, "steps_to_plain"),
        (VIRTUAL, "cpu_to_plain"),
    )
    for kind, name in cases:
        less = "fewer steps" if name == "steps_to_plain" else "less CPU time"
        ratios = _ratios(measured, BEST, kind, name)
        yield Claim(
            claim=f"{kind}: the plain network's last loss in {less} on every seed, at {BEST}",
            held=all(ratio is not None and ratio > 1 for ratio in ratios),
            evidence=_factors(ratios),
        )


def _ratios(measured: Sequence[Record], setting: str, kind: str, name: str) -> list[float | None]:
    """Return how many times sooner than the plain network, by seed; None: not within the steps."""
    pairs = zip(_of(measured, setting, PLAIN), _of(measured, setting, kind), strict=True)
    # a plain network that diverged has no loss to reach, so the entry is None there too
    return [None if row[name] is None else plain[name] / row[name] for plain, row in pairs]


def _factors(ratios: Sequence[float | None]) -> str:
    shown = ("not reached" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
    return "times less, by seed: " + ", ".join(shown)


def _free(measured: Sequence[Record]) -> Claim:
    plain, virtual = (_of(measured, BEST, kind)[0]["parameters"] for kind in (PLAIN, VIRTUAL))
    return Claim(
        claim="virtual depth adds no parameter",
        held=plain == virtual,
        evidence=f"{plain:,} and {virtual:,}",
    )


def _follows(followed: Sequence[Pair]) -> Claim:
    gaps = [
        mean(virtual) / mean(explicit) - 1
        if len(virtual) == len(explicit)
        else None  # one of them diverged
        for virtual, explicit in followed
    ]
    shown = ("diverged" if gap is None else f"{100 * gap:+.2f}" for gap in gaps)
    return Claim(
        claim="virtual: from one start at one learning rate, the loss of explicit depth, as a mean "
        f"over the run to {100 * NEAR:g} %, although momentum acts on the product",
        held=all(gap is not None and abs(gap) < NEAR for gap in gaps),
        evidence="differences by seed, %: " + ", ".join(shown),
    )
