"""What rerunning a published experiment found, its files, and its report.

| file | what |
|---|---|
| result.json | arguments, versions, published and measured numbers, claims |
| arrays.npz | what the figures are drawn from |
| report.md | tables, claims and figures |
"""

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from matplotlib.figure import Figure

from virtualdepth.runs import UnusableError

RESULT, ARRAYS, REPORT = "result.json", "arrays.npz", "report.md"
PACKAGES = ("virtualdepth", "torch", "numpy", "scipy")

Record = dict[str, Any]
Progress = Callable[[str], None]
Keep = Callable[[Record], Record]
Array = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Which experiment to rerun, and how much of it.

    Attributes:
        name: of the experiment.
        seeds: of problems and starts; the first also serves the costly comparisons.
        quick: a small version of about a minute, for a look; its numbers are not the published.
        data_dir: folder of the data; default the environment variable VIRTUALDEPTH_DATA.

    Raises:
        UnusableError: if a value is out of range.
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
    """A statement of the source, or of this package, and whether the rerun bears it out.

    Attributes:
        claim: in words.
        held: whether it did.
        evidence: the numbers.
    """

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
    versions: dict[str, str] = field(default_factory=lambda: versions())

    @property
    def passed(self) -> bool:
        """Whether every claim held."""
        return all(claim.held for claim in self.claims)


def versions() -> dict[str, str]:
    """List what ran.

    Returns:
        Name to version.
    """
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def save(result: Reproduction, folder: Path) -> None:
    """Write result.json and arrays.npz.

    Args:
        result: what was found.
        folder: where.
    """
    content = {"command": "reproduce"} | asdict(result)
    del content["arrays"]
    text = json.dumps(plain(content), indent=2, allow_nan=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(folder / ARRAYS, **result.arrays)


def load(folder: Path) -> Reproduction:
    """Read back what :func:`save` wrote.

    Args:
        folder: where.

    Returns:
        The same result; infinities are the string "inf".

    Raises:
        UnusableError: if there is none, or it is not whole.
    """
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        del content["command"]
        content["claims"] = [Claim(**claim) for claim in content["claims"]]
        # numpy leaves a file that it opened by itself open if that is no archive
        with (folder / ARRAYS).open("rb") as file, np.load(file) as arrays:
            return Reproduction(**content, arrays=dict(arrays))
    except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise UnusableError(
            "folder",
            f"expected {RESULT} and {ARRAYS} as `virtualdepth reproduce` leaves them in {folder} "
            f"but got {type(error).__name__}: {error}",
        ) from error


def plain(value: Any) -> Any:
    """Write values as any JSON reader takes them.

    Args:
        value: of a result.

    Returns:
        The same; infinity is "inf", other numbers that are not finite are None.

    >>> plain({"depths": (2.0, math.inf), "error": math.nan})
    {'depths': [2.0, 'inf'], 'error': None}
    """
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value == math.inf else None
    return value


def shown(value: object) -> str:
    """Format a number as the tables show it.

    Args:
        value: of a row.

    Returns:
        Text; a dash for None.
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.2e}"
    return str(value)


def text_table(rows: Sequence[Record]) -> str:
    """Lay rows out in columns for the terminal, one table for each run of the same "part".

    Args:
        rows: of the same or of similar keys, within a part.

    Returns:
        Lines of text.

    >>> print(text_table([{"depth": 3, "error": 2e-5}]))
    depth     error
        3  2.00e-05
    """
    return "\n\n".join(map(_text_table, _parts(rows)))


def _parts(rows: Sequence[Record]) -> list[list[Record]]:
    return [list(part) for _, part in groupby(rows, lambda row: row.get("part"))]


def _text_table(rows: Sequence[Record]) -> str:
    lines = _cells(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _cells(rows: Sequence[Record]) -> list[list[str]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [
        [name.replace("_", " ") for name in names],
        *([shown(row.get(name)) for name in names] for row in rows),
    ]


def _markdown_table(rows: Sequence[Record]) -> str:
    header, *lines = _cells(rows)
    table = [header, ["--:"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[str]:
    """Write figures as PNG, in place of those of an earlier run.

    Args:
        figures: caption to figure; the files are figure-1.png, ...
        folder: where.

    Returns:
        Names of the files, in order.
    """
    for old in folder.glob("figure-*.png"):
        if old.stem.removeprefix("figure-").isdigit():
            old.unlink()  # there may have been more
    names = [f"figure-{number}.png" for number in range(1, len(figures) + 1)]
    for name, figure in zip(names, figures.values(), strict=True):
        figure.savefig(folder / name, dpi=130)
    return names


def write_report(
    result: Reproduction, title: str, figures: Mapping[str, Figure], folder: Path
) -> None:
    """Write report.md and its figures.

    Args:
        result: what was found.
        title: what the experiment shows, one sentence.
        figures: caption to figure.
        folder: where.
    """
    names = save_figures(figures, folder)
    parts = [
        f"# virtualdepth reproduce {result.name}: {'passed' if result.passed else 'failed'}",
        title,
        "## Published",
        *map(_markdown_table, _parts(result.published)),
        "## Measured",
        *map(_markdown_table, _parts(result.summary or result.measured)),
        "## Claims",
        "\n".join(
            f"- {'held' if claim.held else '**did not hold**'}: {claim.claim} ({claim.evidence})"
            for claim in result.claims
        ),
        *(
            f"![{caption}]({name})\n\n{caption}"
            for name, caption in zip(names, figures, strict=True)
        ),
        "## Settings",
        "\n".join(
            f"- {name}: {list(value) if isinstance(value, tuple) else value}"  # as JSON has it
            for name, value in result.config.items()
        ),
        "Versions: " + ", ".join(f"{key} {text}" for key, text in result.versions.items()) + ".",
    ]
    (folder / REPORT).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
