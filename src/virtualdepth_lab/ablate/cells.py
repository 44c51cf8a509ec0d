"""The cells of a study: one configuration and one seed each, with a name that stays the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from virtualdepth_lab.ablate.config import StudyConfig, Value


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the problem.

    Attributes:
        name: which cell of the study it is; unique in it.
        config: every argument of the problem but the seed; of a search only what is settled.
        seed: of everything random.
    """

    name: str
    config: Mapping[str, Value]
    seed: int


def cells_of(study: StudyConfig) -> list[Cell]:
    """List the cells of a study, seeds varying fastest.

    Args:
        study: a grid, or a search.

    Returns:
        All combinations of a grid, or as many cells as a search has trials.

    >>> study = StudyConfig(name="a", problem="regression", grid={"depth": [1, "inf"]}, seeds=[0, 1])
    >>> [cell.name for cell in cells_of(study)]
    ['depth=1,seed=0', 'depth=1,seed=1', 'depth=inf,seed=0', 'depth=inf,seed=1']
    """  # noqa: E501 (an example is one line)
    if study.search:
        return [
            Cell(name=f"trial={number}", config=study.settings, seed=study.seeds[0])
            for number in range(study.budget["trials"])
        ]
    return [
        cell(study, dict(zip(study.grid, point, strict=True)), seed)
        for point in product(*study.grid.values())
        for seed in study.seeds
    ]


def cell(study: StudyConfig, point: Mapping[str, Value], seed: int) -> Cell:
    """Make one cell of a grid.

    Args:
        study: whose settings it has.
        point: axis -> value.
        seed: of everything random.

    Returns:
        The cell.
    """
    name = ",".join(f"{axis}={entry}" for axis, entry in [*point.items(), ("seed", seed)])
    return Cell(name=name, config={**study.settings, **point}, seed=seed)


def axes(study: StudyConfig) -> dict[str, Any]:
    """List what varies between the cells, but for the seed.

    Args:
        study: any.

    Returns:
        Argument -> its values or range.
    """
    return dict(study.search or study.grid)
