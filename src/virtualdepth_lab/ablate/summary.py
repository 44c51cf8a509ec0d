"""Medians and quartiles over the seeds of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from virtualdepth_lab.ablate.table import Row, complete


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over the seeds of one configuration.

    Attributes:
        median: of them.
        low: first quartile.
        high: third quartile.
        count: how many seeds.
    """

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def spread(numbers: Sequence[float]) -> Spread | None:
    """Summarise numbers.

    Args:
        numbers: any.

    Returns:
        Median and quartiles; None if there are no finite ones.

    >>> print(spread([1.0, 2.0, 4.0, 8.0]))
    3 (1.75 to 5)
    """
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        return None
    low, median, high = (float(q) for q in np.quantile(finite, (0.25, 0.5, 0.75)))
    return Spread(median=median, low=low, high=high, count=len(finite))


def by_configuration(
    rows: list[Row], axes: Sequence[str], metric: str
) -> dict[tuple[Any, ...], Spread]:
    """Summarise a metric over the seeds of each configuration.

    Args:
        rows: of a table.
        axes: what varies.
        metric: which.

    Returns:
        Values of the axes -> spread; without those of which no cell is complete.
    """
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in complete(rows):
        if row[metric] is not None:
            groups.setdefault(tuple(row[axis] for axis in axes), []).append(float(row[metric]))
    found = {point: spread(numbers) for point, numbers in groups.items()}
    return {point: entry for point, entry in found.items() if entry is not None}


def varying(rows: list[Row], names: Sequence[str]) -> list[str]:
    """Choose what takes more than one value, depth first.

    Args:
        rows: of a table.
        names: of columns.

    Returns:
        Names.
    """
    found = [name for name in names if len({str(row[name]) for row in rows}) > 1]
    return sorted(found, key=lambda name: name != "depth")


def in_order(entries: Sequence[Any]) -> list[Any]:
    """Sort the values of an axis: numbers, infinity last; then words as they came.

    Args:
        entries: with repetitions.

    Returns:
        Each once.

    >>> in_order(["inf", 2.0, 1.0, 2.0]), in_order([math.inf, 1, 2])
    ([1.0, 2.0, 'inf'], [1, 2, inf])
    """
    distinct = list(dict.fromkeys(entries))
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    return [*sorted(numbers), *(v for v in distinct if v not in numbers)]


def label(entry: Any) -> str:
    """Write a value for an axis or a legend.

    Args:
        entry: number or word.

    Returns:
        Text.

    >>> label(1e-06), label(math.inf), label("balanced")
    ('1e-06', '∞', 'balanced')
    """
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        return str(entry)
    return "∞" if entry == math.inf else f"{entry:g}"
