"""Tables for the reader: all seeds of a setting in one row."""

from collections.abc import Iterator

from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.rows import grouped, spread

_OVER_TIME = {"layers": ("outside_rank_one", "least_aligned"), "depths added": ("share",)}
_SHOWN = (0, 10, 100, 1000)  # steps, and the last


def summarised(measured: list[Record]) -> Iterator[Record]:
    """Yield the rows of the directions, then those of the other parts over all seeds."""
    for (part,), rows in grouped(measured, "part").items():
        if part == "direction":
            yield from rows
        elif part == "norms":
            yield from _norms(rows)
        else:
            last = max(row["step"] for row in rows)
            for (step,), at_step in grouped(rows, "step").items():
                if step in (*_SHOWN, last):
                    values = {
                        name: spread([row[name] for row in at_step]) for name in _OVER_TIME[part]
                    }
                    yield {"part": part, "step": step} | values


def _norms(rows: list[Record]) -> Iterator[Record]:
    for (problem, method), runs in grouped(rows, "problem", "method").items():
        row: Record = {"part": "norms", "problem": problem, "method": method}
        for name in ("of_largest_1", "of_largest_2", "margin_3"):
            row[name] = spread([run[name] for run in runs], ".3f")
        row["residual"] = spread([run["residual"] for run in runs])
        row["counting"] = ", ".join(str(run["counting"]) for run in runs)
        yield row
