"""Tables of results, for the terminal and for Markdown.

A row maps the names of its columns to values. Each change of a column "part" begins a new table.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
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
    tables = [[list(map(one_line, line)) for line in table] for table in _tables(rows)]
    return "\n\n".join(map(_text, tables))


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows out as a table of Markdown.

    >>> print(markdown_table([{"depth": 3, "error": 2e-5}]))
    | depth | error |
    | --: | --: |
    | 3 | 2.00e-05 |
    """
    return "\n\n".join(map(_markdown, _tables(rows)))


def _tables(rows: Sequence[Mapping[str, Any]]) -> list[list[list[str]]]:
    """Return each table as lines of cells, the header first."""
    parts = [list(part) for _, part in groupby(rows, lambda row: row.get("part"))]
    return [_cells(part) for part in parts]


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    header = [name.replace("_", " ") for name in columns]
    return [header, *([shown(row.get(name)) for name in columns] for row in rows)]


def _text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _markdown(lines: list[list[str]]) -> str:
    header, *body = [list(map(escaped, line)) for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["--:"] * len(header), *body])
