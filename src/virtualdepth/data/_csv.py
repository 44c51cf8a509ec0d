"""Read numbers from a CSV file with a header; an error names line and column."""

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.runs import UnusableError

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
# Squares of what a column varies by, summed over samples, are to be far from 0 and infinity; and
# centring leaves rounding errors of 1e-16 of the largest number.
_SMALLEST, _LARGEST, _FINEST = 1e-100, 1e100, 1e-12


class Table(NamedTuple):
    """Features (samples, n) and targets (samples, m), float64, with the names of the features."""

    features: Tensor
    targets: Tensor
    names: list[str]


def read_csv(path: Path, targets: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read features (samples, n) and ``targets`` (samples, m), float64.

    Blank lines are skipped. A missing value is refused: its owner has to decide what it means.
    """
    table = read_table(path, targets)
    return table.features, table.targets


def read_table(path: Path, targets: Sequence[str]) -> Table:
    """Read features and ``targets`` like :func:`read_csv`, with the names of the features."""
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        lines = ((reader.line_num, cells) for cells in reader if cells)
        header = _header(path, lines)
        chosen = _columns(header, targets)
        rows = [_numbers(path, line, header, cells) for line, cells in lines]
    if not rows:
        raise UnusableError(
            "data", f"expected lines of numbers after the header but got none in {path}"
        )
    values = torch.tensor(rows, dtype=torch.float64)
    for name, column in zip(header, values.T, strict=True):
        _check_range(path, name, column)
    features = [column for column in range(len(header)) if column not in chosen]
    return Table(values[:, features], values[:, chosen], [header[column] for column in features])


def _check_range(path: Path, name: str, column: Tensor) -> None:
    """Refuse numbers (samples,) whose squares, or differences, arithmetic does not hold."""
    low, high = float(column.min()), float(column.max())
    varies_by, largest = high - low, max(abs(low), abs(high))
    if varies_by and not _SMALLEST <= varies_by <= _LARGEST:
        raise UnusableError(
            "data",
            f"expected numbers that differ by {_SMALLEST:g} to {_LARGEST:g} but got {varies_by:g} "
            f"in column {name!r} of {path}; choose another unit for it",
        )
    if 0 < varies_by < _FINEST * largest:
        raise UnusableError(
            "data",
            f"expected numbers that differ by more than {_FINEST:g} of their size but got "
            f"{varies_by:g} of {largest:g} in column {name!r} of {path}; subtract what they have "
            "in common, or leave the column out",
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnusableError(
            "data", f"expected a CSV file that can be read but got {path}: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise UnusableError(
            "data", f"expected a CSV file in UTF-8 but got other bytes in {path}"
        ) from error
    except csv.Error as error:
        raise UnusableError("data", f"expected a CSV file but got {path}: {error}") from error


def _header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    line, cells = next(lines, (0, []))
    header = [cell.strip() for cell in cells]
    if not header:
        raise UnusableError("data", f"expected a header but got an empty file, {path}")
    if len(header) == 1:
        _check_separator(path, line, cells[0])
    if all(_is_number(name) for name in header):
        raise UnusableError(
            "data",
            f"expected a header with the names of the columns but got numbers in line {line} of "
            f"{path}",
        )
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise UnusableError(
            "data",
            f"expected distinct column names but got {_names(sorted(repeated))} more than once in "
            f"line {line} of {path}",
        )
    return header


def _check_separator(path: Path, line: int, text: str) -> None:
    for separator, name in _SEPARATORS.items():
        if separator in text.strip(" "):
            raise UnusableError(
                "data",
                f"expected commas between the columns but got {name} in line {line} of {path}; "
                "write it with commas, and with points in the numbers",
            )


def _columns(header: Sequence[str], targets: Sequence[str]) -> list[int]:
    if not targets:
        raise UnusableError(
            "targets",
            f"expected the columns to predict, among {_names(header)}, but got none; name them, "
            "separated by commas",
        )
    for name in targets:
        if name not in header:
            raise UnusableError(
                "targets",
                f"expected columns among {_names(header)} but got {name!r}{_hint(header)}",
            )
    if len(set(targets)) == len(header):
        raise UnusableError("targets", "expected to leave a column as a feature but got all")
    if len(set(targets)) < len(targets):
        raise UnusableError("targets", f"expected distinct columns but got {_names(targets)}")
    return [header.index(name) for name in targets]


def _hint(header: Sequence[str]) -> str:
    """Say what to do about a column's name that is hard to write."""
    for name in header:
        if "," in name:
            return f"; write a name with a comma in double quotes, as in '\"{name}\"'"
        for separator, what in _SEPARATORS.items():
            if separator in name and separator != " ":
                return f"; the header has {what}, where commas separate columns"
    return ""


def _numbers(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> list[float]:
    if len(cells) != len(header):
        raise UnusableError(
            "data",
            f"expected {len(header)} cells, as in the header, but got {len(cells)} in line {line} "
            f"of {path}",
        )
    return [
        _number(path, line, name, cell.strip()) for name, cell in zip(header, cells, strict=True)
    ]


def _number(path: Path, line: int, name: str, cell: str) -> float:
    if not _is_number(cell) or not math.isfinite(float(cell)):
        got = repr(cell) if cell else "a missing value"
        raise UnusableError(
            "data",
            f"expected a finite number but got {got} in line {line}, column {name!r}, of {path}",
        )
    return float(cell)


def _is_number(cell: str) -> bool:
    if "_" in cell:  # which Python's own numbers may have, as in 1_000
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _names(names: Sequence[str], shown: int = 12) -> str:
    """Quote names for a message of one line, at most ``shown`` of them."""
    left_out = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + left_out
