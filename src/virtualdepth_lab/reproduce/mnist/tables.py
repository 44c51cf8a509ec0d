"""What the curves come to: a row for each network and seed, and a summary over seeds."""

import math
from collections.abc import Sequence
from statistics import mean, median

import numpy as np

from virtualdepth_lab.reproduce.mnist.problem import PLAIN
from virtualdepth_lab.reproduce.mnist.training import Curve
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.rows import grouped


def curve_name(kind: str, lr: float, seed: int) -> str:
    """Return the name under which the curves of a run are kept."""
    return f"{kind}, rate {lr:g}, seed {seed}"


def smoothed(loss: Sequence[float], span: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Average each entry of a loss with those before it, ``span`` of them or as many as there are.

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
    """Measure the curves of one seed and setting against the plain one among them.

    A row holds the loss at the end, a mean over ``span`` batches, and the steps and CPU seconds
    until this mean is the plain network's at the end. None stands for divergence and never.
    """
    plain = next(curve for curve in curves if curve.kind == PLAIN)
    # a plain network that diverged has no last loss to reach
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
    # only a mean over as many batches as the level may reach it
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
    """Return a row for each setting and network, over its seeds."""
    return [
        {"setting": setting, "network": kind, "lr": lr} | _over_seeds(seeds)
        for (setting, kind, lr), seeds in grouped(measured, "setting", "network", "lr").items()
    ]


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
    """Return the median; None counts as later than everything."""
    ordered = sorted(values, key=lambda value: float("inf") if value is None else value)
    return ordered[len(ordered) // 2]
