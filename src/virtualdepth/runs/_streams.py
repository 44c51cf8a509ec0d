"""Standard output and error whose readers may leave, as ``head`` does."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any, cast


class _Patient:
    """A stream that drops what is written to it once nobody reads it any more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Send what comes, and what is in the buffer, nowhere; raise what is no lost reader."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Let a command in the block run to its end, whoever stops reading what it says."""
    out, error = sys.stdout, sys.stderr  # None for a stream that was closed at the start
    with (
        redirect_stdout(cast(IO[str], _Patient(out)) if out else out),
        redirect_stderr(cast(IO[str], _Patient(error)) if error else error),
    ):
        yield
