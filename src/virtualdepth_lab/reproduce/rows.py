"""Rows of results: choose them, group them, and write their numbers out."""

from collections.abc import Iterable, Sequence
from typing import Any

from virtualdepth_lab.reproduce.result import Record


def where(rows: Iterable[Record], **entries: object) -> list[Record]:
    """Return the rows with these entries; a column that a row lacks counts as None.

    >>> where([{"depth": 2, "lr": 0.1}, {"depth": 3}], depth=3, lr=None)
    [{'depth': 3}]
    """
    return [row for row in rows if all(row.get(name) == value for name, value in entries.items())]


def take_arrays(rows: Iterable[Record]) -> dict[str, Any]:
    """Remove the arrays from rows that have some, and return them.

    >>> rows = [{"depth": 2, "arrays": {"curve 2": [1, 2]}}, {"depth": 3}]
    >>> take_arrays(rows), rows
    ({'curve 2': [1, 2]}, [{'depth': 2}, {'depth': 3}])
    """
    arrays: dict[str, Any] = {}
    for row in rows:
        arrays |= row.pop("arrays", {})
    return arrays


def grouped(rows: Iterable[Record], *columns: str) -> dict[tuple[Any, ...], list[Record]]:
    """Group rows by their entries in some columns, in order of appearance.

    >>> list(grouped([{"depth": 2}, {"depth": 3}, {"depth": 2}], "depth"))
    [(2,), (3,)]
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in columns), []).append(row)
    return groups


def listed(values: Iterable[float], form: str = ".3g") -> str:
    """Write numbers out, separated by commas."""
    return ", ".join(format(value, form) for value in values)


def spread(values: Sequence[float], form: str = ".2g") -> str:
    """Write the smallest and the largest number out."""
    return f"{min(values):{form}} to {max(values):{form}}"
