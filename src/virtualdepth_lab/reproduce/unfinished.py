"""The rows of a rerun that was interrupted or failed, kept as they came."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from virtualdepth.runs import mine, plain, remove_own, versions
from virtualdepth_lab.reproduce.result import (
    PACKAGES,
    UNFINISHED,
    Keep,
    Record,
    ReproduceConfig,
)


@contextmanager
def keeping(config: ReproduceConfig, folder: Path) -> Iterator[Keep]:
    """Yield ``keep``, which writes a row to unfinished.jsonl and returns it.

    The file's first line says which experiment ran, with which arguments and versions. The file
    goes when the block succeeds.
    """
    path, count = folder / UNFINISHED, 0

    def keep(row: Record) -> Record:
        nonlocal count
        head = {"command": "reproduce", "config": asdict(config), "versions": versions(*PACKAGES)}
        with mine(folder, UNFINISHED).open("a" if count else "w", encoding="utf-8") as file:
            for line in [row] if count else [head, row]:
                file.write(json.dumps(plain(line), allow_nan=False) + "\n")
        count += 1
        return row

    try:
        yield keep
    except BaseException:
        if count:
            print(f"rows finished by then: {count}, in {path}", file=sys.stderr)
        raise
    remove_own(folder, [UNFINISHED])
