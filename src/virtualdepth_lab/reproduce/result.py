"""What rerunning a published experiment found, its files, and its report.

| file | what |
|---|---|
| result.json | arguments, versions, published and measured numbers, claims |
| arrays.npz | what the figures are drawn from |
| report.md | tables, claims and figures |
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from virtualdepth import runs
from virtualdepth.runs import UnusableError

ARRAYS = "arrays.npz"
UNFINISHED = "unfinished.jsonl"
OWN = (runs.RESULT, ARRAYS, runs.REPORT, UNFINISHED, "figure-1.png")
PACKAGES = ("virtualdepth", "torch", "numpy", "scipy")

Record = dict[str, Any]
Progress = Callable[[str], None]


class Keep(Protocol):
    """What an experiment hands its parts to: those of an interrupted run are not computed again."""

    def __call__(
        self, parts: Mapping[str, Callable[[], Iterable[Record]]], *, later: int = 0
    ) -> list[Record]:
        """Return the rows of all parts, by their names in order; ``later`` counts those to come."""


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Which experiment to rerun, and how much of it.

    Attributes:
        name: of the experiment.
        seeds: of problems and starts; the costly comparisons use the first one only.
        quick: a small version of about a minute; its numbers are not the published ones.
        data_dir: folder of the data; default the environment variable VIRTUALDEPTH_DATA.
    """

    name: str
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    data_dir: str | None = None

    def __post_init__(self) -> None:
        # a seed that comes twice would pass for another draw
        distinct = len(set(self.seeds)) == len(self.seeds) > 0
        if not distinct or not all(0 <= seed < 2**32 for seed in self.seeds):
            given = ",".join(map(str, self.seeds)) or "none"
            raise UnusableError(
                "seeds", f"expected different integers >= 0 and < 2^32 but got {given}"
            )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the source or of this package, whether it held, and the numbers."""

    claim: str
    held: bool
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What an experiment found, in the terms of result.json.

    Attributes:
        name: of the experiment.
        config: the arguments and settings.
        published: rows of the source's table.
        measured: rows of ours.
        claims: what follows.
        summary: rows for the reader, if ``measured`` has too many.
        arrays: what the figures are drawn from.
        versions: of Python and the packages.
    """

    name: str
    config: Record
    published: list[Record]
    measured: list[Record]
    claims: list[Claim]
    summary: list[Record] = field(default_factory=list)
    arrays: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: runs.versions(*PACKAGES))

    @property
    def passed(self) -> bool:
        """Whether every claim held."""
        return all(claim.held for claim in self.claims)


def save(result: Reproduction, folder: Path) -> None:
    """Write result.json and arrays.npz."""
    content = {"command": "reproduce"} | asdict(result)
    del content["arrays"]
    with runs.replacing(folder, ARRAYS) as path:
        with path.open("wb") as file:
            np.savez_compressed(file, **result.arrays)
        runs.write_result(folder, content)


def load(folder: Path) -> Reproduction:
    """Read back what :func:`save` wrote; infinities are the string "inf"."""
    with runs.reading_result(folder, "reproduce", ARRAYS) as content:
        del content["command"]
        for name in ("config", "versions"):
            if not isinstance(content[name], dict):
                raise TypeError(f"{name} {content[name]!r}")
        content["claims"] = [Claim(**claim) for claim in content["claims"]]
        # numpy leaves a file that it opened itself open if that is not an archive
        with (folder / ARRAYS).open("rb") as file, np.load(file) as arrays:
            return Reproduction(**content, arrays=dict(arrays))


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[str]:
    """Write figures (caption to figure) as figure-1.png, ..., and return their paragraphs."""
    earlier = [
        name for name in runs.made_in(folder)[1] if re.fullmatch(r"figure-\d+(-\d+)?\.png", name)
    ]
    runs.remove_own(folder, earlier)  # there may be more of them
    numbered = enumerate(figures.items(), start=1)
    return runs.save_figures({f"figure-{number}.png": entry for number, entry in numbered}, folder)


def tables(rows: list[Record], table: Callable[[list[Record]], str]) -> str:
    """Lay rows out by ``table``; each change of a column "part" begins a new one."""
    parts = (list(part) for _, part in groupby(rows, key=lambda row: row.get("part")))
    return "\n\n".join(table(runs.in_words(part)) for part in parts)


def write_report(
    result: Reproduction, title: str, figures: Mapping[str, Figure], folder: Path
) -> None:
    """Write report.md and its figures (caption to figure); ``title`` says what they show."""
    config = {
        name: list(value) if isinstance(value, tuple) else value  # as JSON has it
        for name, value in result.config.items()
    }
    paragraphs = [
        f"# virtualdepth reproduce {result.name}: {'passed' if result.passed else 'failed'}",
        title,
        "## Published",
        tables(result.published, runs.markdown_table),
        "## Measured",
        tables(result.summary or result.measured, runs.markdown_table),
        "## Claims",
        "\n".join(
            f"- {'held' if claim.held else '**did not hold**'}: "
            f"{runs.escaped(claim.claim)} ({runs.escaped(claim.evidence)})"
            for claim in result.claims
        ),
        *save_figures(figures, folder),
        *runs.settings(config, result.versions),
    ]
    runs.write_report(folder, paragraphs)
