"""The rows of a rerun that was interrupted or failed, kept as they came."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from virtualdepth.runs import plain, versions
from virtualdepth_lab.reproduce.result import PACKAGES, Keep, Record, ReproduceConfig

UNFINISHED = "unfinished.jsonl"


@contextmanager
def keeping(config: ReproduceConfig, folder: Path, *, new: bool = False) -> Iterator[Keep]:
    """Yield ``keep``, which writes a row to unfinished.jsonl and returns it.

    The file's first line says which experiment ran, with which arguments and versions. The file
    goes when the block succeeds. A folder that is ``new`` goes too if no row was finished.
    """
    path, count = folder / UNFINISHED, 0

    def keep(row: Record) -> Record:
        nonlocal count
        head = {"command": "reproduce", "config": asdict(config), "versions": versions(*PACKAGES)}
        with path.open("a" if count else "w", encoding="utf-8") as file:
            for line in [row] if count else [head, row]:
                file.write(json.dumps(plain(line), allow_nan=False) + "\n")
        count += 1
        return row

    try:
        yield keep
    except BaseException:
        if count:
            print(f"rows finished by then: {count}, in {path}", file=sys.stderr)
        elif new:
            with suppress(OSError):
                os.removedirs(folder)  # and runs/reproduce, if nothing else is in it
        raise
    path.unlink(missing_ok=True)
