"""What the MNIST curves show: rows, a summary over seeds, and what the claims come to."""

import math
from collections.abc import Iterator, Sequence
from statistics import mean, median

import numpy as np

from virtualdepth_lab.reproduce.mnist.networks import BALANCED_START, DRAWN_START, PLAIN, VIRTUAL
from virtualdepth_lab.reproduce.mnist.training import Curve
from virtualdepth_lab.reproduce.result import Claim, Record

TUTORIAL, BEST = "the tutorial's rate", "each network's best rate"
ORDER_OF_MAGNITUDE = 10
LEAST_ADDED, MOST_ADDED = 0.14, 0.17  # "roughly 15 %"
NEAR = 0.05  # what virtual and explicit depth may differ by in mean loss: momentum is not the same


def smoothed(loss: Sequence[float], span: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Average each entry with those before it.

    Args:
        loss: by step.
        span: how many entries, at the beginning as many as there are.

    Returns:
        As many entries.

    >>> smoothed([4.0, 2.0, 0.0, 1.0], 2)
    array([4. , 3. , 1. , 0.5])
    """
    sums = np.cumsum([0.0, *loss])
    ends = np.arange(1, len(sums))
    begins = np.maximum(ends - span, 0)
    mean_loss: np.ndarray[tuple[int], np.dtype[np.float64]] = (sums[ends] - sums[begins]) / (
        ends - begins
    )
    return mean_loss


def rows(setting: str, curves: Sequence[Curve], seed: int, steps: int, span: int) -> list[Record]:
    """Measure the curves of one seed against the plain one among them.

    Args:
        setting: which learning rates these are.
        curves: of one seed, one of them plain.
        seed: of the curves.
        steps: that were asked for.
        span: of the mean that stands for the loss at a step.

    Returns:
        A row for each curve: its loss at the end, None if it diverged; steps and CPU seconds until
        its loss is the plain network's at the end, None if it never is or that diverged.
    """
    plain = next(curve for curve in curves if curve.kind == PLAIN)
    # what has diverged has no last loss to reach
    level = float(smoothed(plain.loss, span)[-1]) if len(plain.loss) == steps else -math.inf
    return [
        {
            "setting": setting,
            "network": curve.kind,
            "seed": seed,
            "lr": curve.lr,
            "parameters": curve.parameters,
        }
        | _measure(curve, level, steps, span)
        for curve in curves
    ]


def _measure(curve: Curve, level: float, steps: int, span: int) -> Record:
    loss = smoothed(curve.loss, span)
    finished = len(loss) == steps
    # not before the mean is one of as many batches as the level is
    hits = np.flatnonzero(loss[span - 1 :] <= level)
    hit = int(hits[0]) + span if len(hits) else None
    return {
        "loss": float(loss[-1]) if finished else None,
        "mean_loss": mean(curve.loss) if finished else None,
        "steps_to_plain": hit,
        "cpu_to_plain": None if hit is None else sum(curve.cpu_seconds[:hit]),
        "cpu_per_step": median(curve.cpu_seconds),
        "wall_per_step": median(curve.wall_seconds),
    }


def summary(measured: Sequence[Record]) -> list[Record]:
    """Put the seeds of each setting and network together.

    Args:
        measured: what :func:`rows` returned, of every seed.

    Returns:
        A row for each setting and network: mean, least and greatest loss, medians of the rest.
    """
    keys = dict.fromkeys((row["setting"], row["network"], row["lr"]) for row in measured)
    return [
        {"setting": setting, "network": kind, "lr": lr}
        | _over_seeds([row for row in measured if _key(row) == (setting, kind)])
        for setting, kind, lr in keys
    ]


def _key(row: Record) -> tuple[str, str]:
    return row["setting"], row["network"]


def _over_seeds(seeds: Sequence[Record]) -> Record:
    losses = [row["loss"] for row in seeds if row["loss"] is not None]
    return {
        "parameters": seeds[0]["parameters"],
        "loss": mean(losses) if losses else None,
        "least": min(losses, default=None),
        "greatest": max(losses, default=None),
        "diverged": len(seeds) - len(losses),
        "steps_to_plain": _median([row["steps_to_plain"] for row in seeds]),
        "cpu_to_plain": _median([row["cpu_to_plain"] for row in seeds]),
        "cpu_per_step": median(row["cpu_per_step"] for row in seeds),
        "wall_per_step": median(row["wall_per_step"] for row in seeds),
    }


def _median(values: Sequence[float | None]) -> float | None:
    """Return the median, where None is later than everything."""
    ordered = sorted(values, key=lambda value: float("inf") if value is None else value)
    return ordered[len(ordered) // 2]


def claims(measured: Sequence[Record], followed: Sequence[tuple[Curve, Curve]]) -> list[Claim]:
    """Judge the published statement, and what this package adds to it.

    Args:
        measured: what :func:`rows` returned, of every seed.
        followed: for each seed, virtual and explicit depth from one start at one learning rate.

    Returns:
        Claims, each with its numbers.
    """
    return [
        _added(measured),
        *_published(measured),
        *_sooner(measured),
        _free(measured),
        _follows(followed),
    ]


def _of(measured: Sequence[Record], setting: str, kind: str) -> list[Record]:
    return [row for row in measured if _key(row) == (setting, kind)]


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
    """Say how many times sooner than the plain network, by seed; None: not in as many steps."""
    pairs = zip(_of(measured, setting, PLAIN), _of(measured, setting, kind), strict=True)
    # where the plain network has diverged nothing is said to reach it
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


def _follows(followed: Sequence[tuple[Curve, Curve]]) -> Claim:
    gaps = [
        mean(virtual.loss) / mean(explicit.loss) - 1
        if len(virtual.loss) == len(explicit.loss)
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
