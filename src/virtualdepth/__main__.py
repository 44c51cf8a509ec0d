"""The start of the program ``virtualdepth``, which is also ``python -m virtualdepth``."""

import os
import signal
import sys

from virtualdepth._interrupt import quit_on_interrupt


def start() -> int:
    """Run the command line of this process, and return its exit status."""
    quit_on_interrupt("virtualdepth")
    os.environ["MPLBACKEND"] = "agg"  # figures go into files; a notebook names a backend of its own
    from virtualdepth.cli import main  # not before Ctrl-C has an answer

    status = main()
    if callable(signal.getsignal(signal.SIGINT)):  # what is left is only the end of the process
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


if __name__ == "__main__":
    sys.exit(start())
