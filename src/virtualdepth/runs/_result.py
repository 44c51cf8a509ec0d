"""result.json: how a command writes what it found, and reads it back."""

import json
import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from virtualdepth.runs._errors import UnusableError
from virtualdepth.runs._owned import RESULT, replacing


def plain(value: Any, *, nan: str | None = None) -> Any:
    """Encode a value for JSON: infinity is "inf" or "-inf", NaN is ``nan``, a tuple is a list.

    >>> plain({"depths": (2.0, math.inf), "error": math.nan})
    {'depths': [2.0, 'inf'], 'error': None}
    """
    if isinstance(value, Mapping):
        return {key: plain(entry, nan=nan) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, nan=nan) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return nan if math.isnan(value) else str(value)
    return value


def versions(*packages: str) -> dict[str, str]:
    """Return the version of Python and of each package."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def write_result(folder: Path, content: Mapping[str, Any]) -> None:
    """Write result.json; ``content["command"]`` says whose it is."""
    text = json.dumps(plain(content), indent=2, allow_nan=False)
    with replacing(folder, RESULT) as path:
        path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def reading_result(folder: Path, command: str, *more: str) -> Iterator[dict[str, Any]]:
    """Yield the content of result.json; ``more`` names other files that the block reads.

    What is missing or damaged, there or in the block, raises one UnusableError.
    """
    try:
        yield json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
        files, them = " and ".join([RESULT, *more]), "them" if more else "it"
        raise UnusableError(
            "folder",
            f"expected {files} as `virtualdepth {command}` leaves {them} in {folder} but got "
            f"{type(error).__name__}: {error}",
        ) from error
