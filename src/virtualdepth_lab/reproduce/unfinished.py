"""The parts of a rerun, each kept when it is done: the same command goes on after them."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from virtualdepth.runs import mine, plain, remove_own, replacing, versions
from virtualdepth_lab.reproduce.result import PACKAGES, UNFINISHED, Record, ReproduceConfig

_ARRAY = "npy"  # the key of an array: the bytes of a .npy file, in base64


class Bar(Protocol):
    """What is used of a bar of tqdm."""

    total: float | None
    n: float

    def set_description(self, desc: str | None = None) -> None:
        """Show what runs."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count parts that are done."""

    def refresh(self) -> Any:
        """Draw the bar."""


class Keep:
    """Computes the parts of an experiment, and keeps them in unfinished.jsonl.

    The first line of that file says which experiment ran, with which arguments and versions. Each
    other line is a part.
    """

    def __init__(self, config: ReproduceConfig, folder: Path, bar: Bar) -> None:
        self._folder, self._bar = folder, bar
        self._head = encode(
            {"command": "reproduce", "config": plain(asdict(config)), "versions": _versions()}
        )
        self._lines = _lines(folder / UNFINISHED)
        self.earlier = self._lines[:1] == [self._head]  # whether there is something to go on from
        self.others = bool(self._lines) and not self.earlier
        if not self.earlier:
            self._lines = [self._head]
        parts = map(decode, self._lines[1:])
        self._known: dict[str, list[Record]] = {part["part"]: part["rows"] for part in parts}
        self._written = False
        self.total = self.done = 0

    @property
    def known(self) -> int:
        """How many parts are in the file."""
        return len(self._known)

    def __call__(
        self, parts: Mapping[str, Callable[[], Iterable[Record]]], *, later: int = 0
    ) -> list[Record]:
        """Return the rows of parts in their order; of one that is known, as they were kept.

        ``later`` is how many parts there will be in later calls. A row may have arrays, under the
        key "arrays".
        """
        self._bar.total = self.total = self.done + len(parts) + later
        self._bar.refresh()
        rows: list[Record] = []
        for name, compute in parts.items():
            if name not in self._known:
                self._bar.set_description(name)
                self._add(name, list(compute()))
            rows += self._known[name]
            self.done += 1
            self._bar.update()
        return rows

    def _add(self, name: str, rows: list[Record]) -> None:
        line = encode({"part": name, "rows": rows})
        # what the file gives back is what is used: a run that was interrupted ends like another
        self._known[name] = decode(line)["rows"]
        self._lines.append(line)
        if self._written:
            with mine(self._folder, UNFINISHED).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            return
        with replacing(self._folder, UNFINISHED) as path:  # a line may be torn, or of another run
            path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")
        self._written = True


@contextmanager
def keeping(
    config: ReproduceConfig, folder: Path, bar: Bar, say: Callable[[str], object]
) -> Iterator[Keep]:
    """Yield what computes parts, and tell where they are kept; the file goes at a good end."""
    keep, path = Keep(config, folder, bar), folder / UNFINISHED
    if keep.others:
        say(f"begins anew: {path} is of a run with other arguments or versions")
    elif keep.known:
        say(f"goes on after the parts of {path}: {keep.known}")
    try:
        yield keep
    except BaseException:
        of_all = f" of {keep.total}" if keep.total else ""
        if keep.known:
            say(
                f"parts finished by then: {keep.known}{of_all}, in {path}; the same command with "
                f"--output {folder} goes on after them"
            )
        elif keep.total:
            say(f"parts finished by then: 0{of_all}; the same command begins anew")
        raise
    remove_own(folder, [UNFINISHED])


def _lines(path: Path) -> list[str]:
    """Read the whole lines of a file; the last may be torn, where a process was killed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    return [line for line in lines if _is_whole(line)]


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _versions() -> dict[str, str]:
    return versions(*PACKAGES)


def encode(value: Any) -> str:
    """Write a value with its arrays as one line, exactly."""
    return json.dumps(value, default=_encode_array)


def decode(line: str) -> Any:
    """Undo :func:`encode`; tuples have become lists.

    >>> decode(encode({"depth": float("inf"), "arrays": {"curve": np.arange(3.0)}}))
    {'depth': inf, 'arrays': {'curve': array([0., 1., 2.])}}
    """
    return json.loads(line, object_hook=_decode_array)


def _encode_array(value: Any) -> dict[str, str]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"rows: expected numbers, text and arrays but got {type(value).__name__}")
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return {_ARRAY: base64.b64encode(file.getvalue()).decode("ascii")}


def _decode_array(found: dict[str, Any]) -> Any:
    if found.keys() != {_ARRAY}:
        return found
    return np.load(io.BytesIO(base64.b64decode(found[_ARRAY])), allow_pickle=False)
