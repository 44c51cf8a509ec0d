"""Tables of text, for tables that users print."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells of a table, so that each column starts at one place.

    Returns:
        One line for each row.

    >>> aligned([["layer", "rank"], ["0", "12"]])
    ['layer  rank', '0      12']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
