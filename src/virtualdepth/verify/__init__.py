"""The main job, ``virtualdepth verify``: one layer beside an explicit deep network (level 3).

This is the module of the command; it imports little.
"""

from virtualdepth.verify._command import (
    DESCRIPTION,
    EPILOG,
    EXTRA,
    HELP,
    TAKES_MORE,
    add_arguments,
    report,
    run,
)

__all__ = [
    "DESCRIPTION",
    "EPILOG",
    "EXTRA",
    "HELP",
    "TAKES_MORE",
    "add_arguments",
    "report",
    "run",
]
