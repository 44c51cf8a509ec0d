"""The cells of a study: one configuration and one seed each, with a name that stays the same."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from virtualdepth.runs import UnusableError, one_line
from virtualdepth_lab.ablate.study import StudyConfig, Value


class Status(StrEnum):
    """How a cell ended; in tables and storages it is this word."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"  # it raised an error, or killed its workers
    UNFINISHED = "unfinished"  # it waits or runs


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the problem."""

    name: str  # unique in the study
    config: Mapping[str, Value]  # every argument but the seed; of a search only the settings
    seed: int


def cells_of(study: StudyConfig) -> list[Cell]:
    """List all combinations of a grid, seeds varying fastest, or as many cells as a search has.

    >>> study = StudyConfig(name="a", problem="regression", grid={"depth": [1, "inf"]}, seeds=[0, 1])
    >>> [cell.name for cell in cells_of(study)]
    ['depth=1,seed=0', 'depth=1,seed=1', 'depth=inf,seed=0', 'depth=inf,seed=1']
    """  # noqa: E501 (an example is one line)
    if study.search:
        return [
            Cell(name=f"trial={number}", config=study.settings, seed=study.seeds[0])
            for number in range(study.budget["trials"])
        ]
    cells = []
    for point in product(*study.grid.values()):
        varied = dict(zip(study.grid, point, strict=True))
        for seed in study.seeds:
            name = ",".join(f"{axis}={entry}" for axis, entry in {**varied, "seed": seed}.items())
            cells.append(Cell(name=name, config={**study.settings, **varied}, seed=seed))
    for name, times in Counter(cell.name for cell in cells).items():
        if times > 1:  # of the word "True" beside true, or with a comma in a word
            raise UnusableError(
                "grid", f"expected values that look different but got {times} cells named {name!r}"
            )
    return cells


def reason_of(error: BaseException) -> str:
    """Write an error in one line, as the reason why a cell failed."""
    return f"{type(error).__name__}: {one_line(error)}"
