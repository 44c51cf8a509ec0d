"""Which files of a folder its runs made: no other file is ever replaced or removed.

The file .virtualdepth-run in the folder keeps their names: a first line that names the command,
then one name a line, each written before the file is.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from virtualdepth.runs._errors import UnusableError

RESULT, REPORT = "result.json", "report.md"
MARK = ".virtualdepth-run"
_FIRST_LINE = "virtualdepth {}: its runs made these files of this folder"


def command_of(folder: Path) -> str | None:
    """Return which command left its result.json in a folder; None if there is no such file."""
    try:
        return str(json.loads((folder / RESULT).read_text(encoding="utf-8"))["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def made_in(folder: Path, own: Iterable[str] = ()) -> tuple[str | None, list[str]]:
    """Return the command that made files in a folder, and their names.

    Where .virtualdepth-run is missing or empty, as in a copy without hidden files, the command is
    that of result.json, and its files are that, report.md and ``own``.
    """
    lines = _lines(folder / MARK)
    if not lines:
        command = command_of(folder)
        names = [] if command is None else [RESULT, REPORT, *own]
        return command, [name for name in dict.fromkeys(names) if os.path.lexists(folder / name)]
    begin, end = _FIRST_LINE.split("{}")
    first, *names = lines
    if not (first.startswith(begin) and first.endswith(end)):
        raise foreign(folder, [MARK])
    return first[len(begin) : -len(end)] or None, names


def _lines(mark: Path) -> list[str]:
    try:
        return mark.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def start_mark(folder: Path, command: str | None, names: Iterable[str]) -> None:
    """Write .virtualdepth-run, or write it anew."""
    lines = [_FIRST_LINE.format(command or ""), *names]
    # in place: a command holds its folder by a lock on this very file
    (folder / MARK).write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_own(folder: Path, made: Iterable[str], names: Iterable[str]) -> None:
    """Refuse the folder if one of ``names`` is there and is not among the files ``made``."""
    others = [name for name in names if os.path.lexists(folder / name) and name not in made]
    if others:
        raise foreign(folder, others)


def foreign(folder: Path, names: list[str]) -> UnusableError:
    """Return the error of a folder with files of another origin."""
    return UnusableError(
        "output",
        f"expected a folder where no file of another origin would be overwritten but got {folder} "
        f"with {', '.join(names)}; choose another folder, or move what is yours away",
    )


def mine(folder: Path, name: str) -> Path:
    """Return the path of a file that a run makes in its folder; refuse one that it did not make."""
    if name in {"", ".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
        raise UnusableError(
            "output", f"expected the name of a file in {folder} but got {name!r}; choose another"
        )
    command, made = made_in(folder)
    if not _lines(folder / MARK):
        start_mark(folder, command, made)
    check_own(folder, made, [name])
    if name not in made:
        with (folder / MARK).open("a", encoding="utf-8") as file:
            file.write(name + "\n")
    return folder / name


def free_name(folder: Path, name: str, taken: Collection[str] = ()) -> str:
    """Return ``name``, or with a number if it is taken or that of a file of another origin."""
    made, path = made_in(folder)[1], Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    return next(
        each
        for each in chain([name], numbered)
        if each not in taken and (each in made or not os.path.lexists(folder / each))
    )


def remove_own(folder: Path, names: Iterable[str]) -> None:
    """Remove those of ``names`` that a run made."""
    made = made_in(folder)[1]
    for name in names:
        if name in made:
            (folder / name).unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path, name: str) -> Iterator[Path]:
    """Yield where to write; what is there takes the place of the run's file when it is whole."""
    with whole(mine(folder, name)) as part:
        yield part


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write; what is there becomes the file, at once, if no error ends the block."""
    part = part_of(path)
    part.unlink(missing_ok=True)  # of a run that was killed
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return where a file is written before it is whole."""
    return path.with_name(f".{path.name}.virtualdepth-part")
