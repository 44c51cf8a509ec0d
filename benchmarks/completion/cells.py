"""Cells, the unit of work: one method on one draw. Each result is stored as it comes."""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.completion.draws import Draw
from benchmarks.completion.methods import METHODS
from benchmarks.completion.rivals.held_out import Answer
from tqdm import tqdm

from virtualdepth.runs import mine

Cell = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Cells of one kind, and how to measure one: a dictionary that is added to the cell's."""

    name: str
    cells: Callable[[bool, Sequence[Path]], list[Cell]]
    measure: Callable[[Cell, Sequence[Path]], Row]


def key_of(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)


def solve(cell: Cell, draw: Draw) -> tuple[Answer, float]:
    """Run the cell's method on a draw. Return its answer and its CPU seconds."""
    begin = process_time()
    answer = METHODS[cell["method"]](draw.known, draw.rank, cell["seed"])
    return answer, process_time() - begin


def measured(part: Part, cell: Cell, folders: Sequence[Path]) -> Row:
    """Measure a cell. A method that fails leaves its error in place of numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return part.measure(cell, folders)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:200]}


def read_rows(path: Path) -> list[tuple[Cell, Row]]:
    """Return the stored results; a line that was cut off counts as not there."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            stored = json.loads(line)
        except ValueError:
            continue
        found.append((stored["cell"], stored["row"]))
    return found


def run_cells(
    parts: Sequence[Part],
    folder: Path,
    name: str,
    *,
    quick: bool,
    folders: Sequence[Path],
    wanted: Sequence[str],
    methods: Sequence[str] | None = None,
    seeds: int = 5,
) -> list[Row]:
    """Measure what ``name`` in the folder does not hold yet. Return all rows, old and new.

    ``wanted`` are the names of the parts to measure, in their order; ``methods`` leaves out others.
    Only seeds below ``seeds`` count, in the result too.
    """
    path = mine(folder, name)
    done = {key_of(cell): row for cell, row in read_rows(path) if "failed" not in row}
    order = {name: place for place, name in enumerate(wanted)}
    planned = [
        (part, {"part": part.name, **cell})
        for part in parts
        for cell in part.cells(quick, folders)
        if cell["seed"] < seeds
    ]
    left = [
        (part, cell)
        for part, cell in sorted(planned, key=lambda pair: order.get(pair[0].name, 0))
        if part.name in order
        and key_of(cell) not in done
        and (methods is None or cell["method"] in methods)
    ]
    with path.open("a", encoding="utf-8") as file:
        for part, cell in (bar := tqdm(left, disable=None, unit="cell", file=sys.stderr)):
            bar.set_postfix_str(f"{part.name}, {cell['method']}", refresh=False)
            row = done[key_of(cell)] = measured(part, cell, folders)
            file.write(json.dumps({"cell": cell, "row": row}) + "\n")
            file.flush()
    return [{**cell, **done[key_of(cell)]} for _, cell in planned if key_of(cell) in done]
