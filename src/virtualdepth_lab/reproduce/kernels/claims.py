"""What the kernels have to bear out: pure functions of rows."""

from collections.abc import Iterator
from statistics import fmean

import numpy as np

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, listed, spread, where

PUBLISHED: list[Record] = [
    {"source": "arXiv 1806.07572", "statement": "as the widths grow the tangent kernel tends to a "
     "fixed one, and training does not change it"},
    {"source": "arXiv 1904.11955, theorem 3.1", "statement": "ReLU networks: within L e of it at "
     "widths of order L^6 / e^4"},
    {"source": "arXiv 1904.11955, theorem 3.2", "statement": "the trained network predicts as the "
     "regression with the kernel"},
    {"source": "arXiv 1902.06720, theorem 2.1", "statement": "their distance falls like "
     "width^(-1/2)"},
    {"source": "arXiv 1904.11955, abstract", "statement": "CIFAR-10, convolutional: the kernel is "
     "6 % below the network (not rerun)"},
]  # fmt: skip
EXACT = 1e-12
# written after a prototype, whose gaps at widths 128 to 2048 fell with powers near -1/2
POWER, NEAR_ACCURACY = (-0.65, -0.35), 0.02


def claims(measured: list[Record]) -> Iterator[Claim]:
    """Judge the rows of every part."""
    parts = {part: rows for (part,), rows in grouped(measured, "part").items()}
    for (activation, layers), rows in grouped(parts["width"], "activation", "layers").items():
        yield _falls(
            f"{activation}, {layers} layers: the kernel tends to the exact one", rows, "gap"
        )
    yield _twins(parts["deep twin"])
    yield _zeros(parts["zeros"])
    yield _falls(
        "two Gaussian layers, trained: their kernel tends to that of one layer with imbalance "
        "2 s^2 width",
        parts["imbalance"],
        "gap_end",
    )
    yield _control(parts["imbalance"])
    for (layers,), rows in grouped(parts["digits"], "layers").items():
        if layers > 1:
            yield from _digits(layers, rows)


def root_mean_squares(rows: list[Record], name: str) -> dict[int, float]:
    """Average squares over seeds at each width."""
    return {
        width: fmean(row[name] ** 2 for row in at_width) ** 0.5
        for (width,), at_width in grouped(rows, "width").items()
    }


def power(by_width: dict[int, float]) -> float:
    """Fit the exponent of the width."""
    return float(np.polyfit(np.log(list(by_width)), np.log(list(by_width.values())), 1)[0])


def _falls(label: str, rows: list[Record], name: str) -> Claim:
    gaps = root_mean_squares(rows, name)
    exponent = power(gaps)
    return Claim(
        claim=f"{label}, like width^(-1/2)",
        held=POWER[0] < exponent < POWER[1],
        evidence=f"power {exponent:.2f}, gaps {listed(gaps.values())}",
    )


def _twins(rows: list[Record]) -> Claim:
    gaps, plain = ([row[name] for row in rows] for name in ("gap", "plain_gap"))
    return Claim(
        claim="the kernel under the end-to-end rule is that of the network with deep layers, to "
        f"{EXACT:g}; the plain kernel is not",
        held=max(gaps) < EXACT and min(plain) > 0.01,
        evidence=f"relative distances {spread(gaps)}; of the plain kernel {spread(plain)}",
    )


def _zeros(rows: list[Record]) -> Claim:
    gaps = [row["gap"] for row in rows]
    return Claim(
        claim="a layer of zeros with imbalance (L / n)^(1 / (L - 1)) at depth L has the kernel of "
        f"L infinitely wide linear layers, to {EXACT:g}",
        held=max(gaps) < EXACT,
        evidence=f"relative distances {spread(gaps)}",
    )


def _control(rows: list[Record]) -> Claim:
    widest = where(rows, width=max(row["width"] for row in rows))
    gaps, balanced = ([row[name] for row in widest] for name in ("gap_end", "balanced_gap_end"))
    return Claim(
        claim="control: at the largest width the kernel of the balanced rule is more than 5 times "
        "as far",
        held=all(other > 5 * gap for gap, other in zip(gaps, balanced, strict=True)),
        evidence=f"{spread(balanced)} against {spread(gaps)}",
    )


def _digits(layers: int, rows: list[Record]) -> Iterator[Claim]:
    networks = where(rows, predictor="network")
    distances = root_mean_squares(networks, "distance")
    exponent = power(distances)
    yield Claim(
        claim=f"digits, {layers} layers: the trained network tends to the regression with the "
        "kernel at least like width^(-1/2), less .15",
        held=exponent < POWER[1],
        evidence=f"power {exponent:.2f}, distances {listed(distances.values())}",
    )
    kernel = where(rows, predictor="kernel, as many steps")
    widest = where(networks, width=max(row["width"] for row in networks))
    theirs, ours = ([row["accuracy"] for row in each] for each in (widest, kernel))
    yield Claim(
        claim=f"digits, {layers} layers: the widest network and the kernel are within "
        f"{100 * NEAR_ACCURACY:g} % in accuracy",
        held=all(abs(a - b) < NEAR_ACCURACY for a, b in zip(theirs, ours, strict=True)),
        evidence=f"network {spread(theirs, '.3f')}, kernel {spread(ours, '.3f')}",
    )


_KEYS = {
    "width": ("activation", "layers", "width"),
    "deep twin": ("depth",),
    "zeros": ("depth",),
    "imbalance": ("width",),
    "digits": ("layers", "predictor", "width"),
}
_NUMBERS = ("gap", "plain_gap", "gap_start", "gap_end", "balanced_gap_end", "turned", "distance",
            "cpu_s")  # fmt: skip


def summarised(measured: list[Record]) -> Iterator[Record]:
    """Yield one row for all seeds of each setting, with the least and the largest number."""
    for (part,), rows in grouped(measured, "part").items():
        for key, runs in grouped(rows, *_KEYS[part]).items():
            row: Record = {"part": part, **dict(zip(_KEYS[part], key, strict=True))}
            for name in _NUMBERS:
                if name in runs[0]:
                    row[name] = spread([run[name] for run in runs])
            if "accuracy" in runs[0]:
                row["accuracy"] = spread([run["accuracy"] for run in runs], ".3f")
            yield row
