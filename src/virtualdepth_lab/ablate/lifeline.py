"""A process that ends when the one that started it does, however that happens."""

import os
import signal
import sys
import threading


def die_with_parent() -> None:
    """Watch standard input, a pipe that ends with the parent; then end this process group."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    # Not sys.stdin: a thread must not hold its lock when the interpreter ends.
    while os.read(0, 1):
        pass
    if sys.platform == "win32":
        os._exit(1)
    os.killpg(0, signal.SIGKILL)
