"""A process that ends when the one that started it does, however that happens."""

import os
import shutil
import signal
import sys
import threading


def die_with_parent(scratch: str | None = None) -> None:
    """Watch standard input, a pipe that ends with the parent; then end this process group.

    The folder ``scratch``, which the parent made, goes too.
    """
    threading.Thread(target=_watch, args=(scratch,), daemon=True).start()


def _watch(scratch: str | None) -> None:
    # Not sys.stdin: a thread must not hold its lock when the interpreter ends.
    while os.read(0, 1):
        pass
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    if sys.platform == "win32":
        os._exit(1)
    os.killpg(0, signal.SIGKILL)
