"""The folder that a command writes to: claimed for one command at a time."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from virtualdepth._interrupt import raise_on_interrupt
from virtualdepth.runs._errors import UnusableError
from virtualdepth.runs._owned import (
    MARK,
    REPORT,
    RESULT,
    check_own,
    foreign,
    made_in,
    start_mark,
)

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link leads to another's file


@contextmanager
def claim_folder(
    output: str | Path | None, command: str, own: Sequence[str] = (RESULT, REPORT)
) -> Iterator[Path]:
    """Hold the folder ``output``, by default a new runs/<command>/<time>, in the block.

    It is refused if it cannot be written to, if another command holds it, or if there are files
    named in ``own`` that no earlier run of this command made. What the claim itself made goes at
    the end of the block if no file of the run is there.
    """
    if output == "":
        raise UnusableError("output", "expected a folder but got an empty name; name one")
    raise_on_interrupt()
    with _existing(output, command) as folder, _held(folder):
        before, made = made_in(folder, own)
        made = [name for name in made if os.path.lexists(folder / name)]
        if made and before not in {None, command}:
            raise UnusableError(
                "output",
                f"expected a new folder, or one that an earlier run of {command} left, but got "
                f"{folder}, where {before} left {', '.join(made[:3])}; choose another",
            )
        check_own(folder, made, own)
        if before != command or not (folder / MARK).stat().st_size:
            start_mark(folder, command, made)
        yield folder


@contextmanager
def _existing(output: str | Path | None, command: str) -> Iterator[Path]:
    """Make the folder for the block; folders made here that are empty at its end go again."""
    folder, made = _made(output, command)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty, or in use: then those above it are not empty either
            for path in made:
                path.rmdir()


def _made(output: str | Path | None, command: str) -> tuple[Path, list[Path]]:
    """Make the folder; return it, and those made on the way, the innermost first."""
    folder = Path("runs", command) if output is None else Path(output)
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        if output is None:
            folder = _new_folder(folder)
            made = [folder, *made]
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder, made


def _new_folder(parent: Path) -> Path:
    """Make a folder named after the time; of those who try at once, each gets another."""
    now, number = f"{datetime.now():%Y-%m-%d_%H-%M-%S}", 1
    while True:
        folder = parent / (now if number == 1 else f"{now}.{number}")
        try:
            folder.mkdir(parents=True)  # again, since the parent goes with a run that made nothing
        except FileExistsError:
            number += 1
        else:
            return folder


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder; the death of this process frees it."""
    path = folder / MARK
    try:
        while True:
            handle = os.open(path, _OPEN, 0o666)
            if not stat.S_ISREG(os.fstat(handle).st_mode):  # a pipe would be waited for
                os.close(handle)
                raise foreign(folder, [MARK])
            if not _lock(handle):
                os.close(handle)
                raise UnusableError(
                    "output",
                    f"expected a folder that no other command is using but got {folder}; wait for "
                    "that command, or choose another folder",
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    break
            os.close(handle)  # of a file that the command before this one has just removed
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # also where a user has removed the folder
            if not path.stat().st_size or not _has_files(folder):
                path.unlink()
        os.close(handle)


def _has_files(folder: Path) -> bool:
    """Tell whether a file that runs made is there; true where that cannot be told."""
    try:
        return any(os.path.lexists(folder / name) for name in made_in(folder)[1])
    except (UnusableError, OSError):
        return True


def _unwritable(folder: Path, error: OSError) -> UnusableError:
    return UnusableError(
        "output",
        f"expected a folder to write to but got {folder}: {error.strerror}; choose another",
    )


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # a place that nothing is written to
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
