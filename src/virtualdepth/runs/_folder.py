"""The folder that a command writes to."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from virtualdepth.runs._errors import UnusableError
from virtualdepth.runs._result import REPORT, RESULT


def claim_folder(output: str | None, command: str, own: Sequence[str] = (RESULT, REPORT)) -> Path:
    """Make the folder ``output``, by default runs/<command>/<time>, or take an earlier run's.

    Nothing in it changes. It is refused if it cannot be written to, or if files named in ``own``
    are there and no run of this command left them.
    """
    folder = _new_folder(command) if output is None else Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".virtualdepth"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UnusableError(
            "output",
            f"expected a folder to write to but got {folder}: {error.strerror}; choose another",
        ) from error
    taken = [name for name in own if (folder / name).exists()]
    if taken and command_of(folder) != command:
        raise UnusableError(
            "output",
            f"expected a new folder, or one that an earlier run of {command} left, but got "
            f"{folder} with {', '.join(taken)} of another origin, which would be overwritten; "
            "choose another",
        )
    return folder


def _new_folder(command: str) -> Path:
    now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder = Path("runs", command, now)
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{now}.{number}")
        number += 1
    return folder


def command_of(folder: Path) -> str | None:
    """Return which command left its result.json in a folder; None if there is no such file."""
    try:
        return str(json.loads((folder / RESULT).read_text(encoding="utf-8"))["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
