"""Medians and quartiles over the seeds of a table."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from virtualdepth_lab.ablate.checks import is_number
from virtualdepth_lab.ablate.table import Row, complete

Point = tuple[Any, ...]  # a value for each axis


class Quartiles(NamedTuple):
    """A metric over the seeds of one configuration.

    >>> print(Quartiles(1.75, 3.0, 5.0))
    3 (1.75 to 5)
    """

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def by_configuration(rows: list[Row], axes: Sequence[str], metric: str) -> dict[Point, Quartiles]:
    """Summarise a metric over the seeds of each configuration that has a finite number."""
    groups: dict[Point, list[float]] = {}
    for row in complete(rows):
        if row[metric] is not None and math.isfinite(row[metric]):
            point = tuple(row[axis] for axis in axes)
            groups.setdefault(point, []).append(float(row[metric]))
    return {
        point: Quartiles(*np.quantile(numbers, (0.25, 0.5, 0.75)).tolist())
        for point, numbers in groups.items()
    }


def varying(rows: list[Row], names: Sequence[str]) -> list[str]:
    """Return the columns with more than one value, depth first."""
    found = [name for name in names if len({str(row[name]) for row in rows}) > 1]
    return sorted(found, key=lambda name: name != "depth")


def in_order(entries: Sequence[Any]) -> list[Any]:
    """Return each value of an axis once: numbers rising, then words as they came.

    >>> in_order(["inf", 2.0, 1.0, 2.0]), in_order([math.inf, 1, 2])
    ([1.0, 2.0, 'inf'], [1, 2, inf])
    """
    distinct = list(dict.fromkeys(entries))
    numbers = [entry for entry in distinct if is_number(entry)]
    return [*sorted(numbers), *(entry for entry in distinct if not is_number(entry))]


def label(entry: Any) -> str:
    """Write a value for an axis or a legend.

    >>> label(1e-06), label(math.inf), label("balanced")
    ('1e-06', '∞', 'balanced')
    """
    if not is_number(entry):
        return str(entry)
    return "∞" if entry == math.inf else f"{entry:g}"
