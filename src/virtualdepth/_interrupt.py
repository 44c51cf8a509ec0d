"""What Ctrl-C does: end the process at once, until there is something to tidy up."""

import os
import signal
from types import FrameType


class Quit:
    """Handle SIGINT by one line and the status 130.

    An exception would be lost, or become another one, in what torch and others do while they load.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """End the process."""
        try:
            os.write(2, f"{self.program}: interrupted\n".encode())
        finally:  # also where nobody reads it any more
            os._exit(130)


def quit_on_interrupt(program: str) -> None:
    """Let Ctrl-C end the process at once, unless whoever started it wants Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, Quit(program))


def name_program(program: str) -> None:
    """Say ``program`` in the line, if Ctrl-C ends the process at once."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, Quit):
        handler.program = program


def raise_on_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: from here on there is something to tidy up."""
    if isinstance(signal.getsignal(signal.SIGINT), Quit):
        signal.signal(signal.SIGINT, signal.default_int_handler)
