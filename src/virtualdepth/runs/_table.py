"""Tables of results, for the terminal and for Markdown; a row maps names of columns to values."""

from collections.abc import Mapping, Sequence
from typing import Any

from virtualdepth.runs._markdown import escaped, one_line


def shown(value: object) -> str:
    """Format one cell: four digits of a number, a dash for None.

    >>> shown(0.12345), shown(2e-5), shown(None), shown("raw")
    ('0.1235', '2.00e-05', '–', 'raw')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.2e}"
    return str(value)


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows out in columns for the terminal.

    >>> print(text_table([{"depth": 3, "error": 2e-5}]))
    depth     error
        3  2.00e-05
    """
    lines = [list(map(one_line, line)) for line in _lines(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows out as a table of Markdown.

    >>> print(markdown_table([{"depth": 3, "error": 2e-5}]))
    | depth | error |
    | --: | --: |
    | 3 | 2.00e-05 |
    """
    lines = [list(map(escaped, line)) for line in _lines(rows)]
    lines[1:1] = [["--:"] * len(line) for line in lines[:1]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of each line, the names of the columns first; nothing without rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [columns, *([shown(row.get(name)) for name in columns] for row in rows)] if rows else []


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write the names of columns with spaces, as in "final loss" for final_loss."""
    return [{name.replace("_", " "): value for name, value in row.items()} for row in rows]
