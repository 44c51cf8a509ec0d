"""What it costs to start: CPU seconds of the program and of the imports, each in a fresh process.

    python benchmarks/cold_start.py      # half a minute

The program answers without torch; a name of the package loads it. Each row is the median of several
processes, which take turns. "beside python" is less the median of a process that does nothing.
"""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from common import arguments, parse, report

PROGRAM = ("-m", "virtualdepth")
WAYS = {
    "python -c pass": ("-c", "pass"),
    "virtualdepth --help": (*PROGRAM, "--help"),
    "virtualdepth verify --depth nonsense": (*PROGRAM, "verify", "--depth", "nonsense"),
    "virtualdepth reproduce --nonsense": (*PROGRAM, "reproduce", "--nonsense"),
    "import torch": ("-c", "import torch"),
    "import torch, virtualdepth": ("-c", "import torch, virtualdepth"),
    "import torch; virtualdepth.EndToEndSGD": (
        "-c",
        "import torch, virtualdepth; virtualdepth.EndToEndSGD",
    ),
}


def cpu_seconds(words: tuple[str, ...]) -> float:
    """User and system time of one process; what it prints is dropped."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = parse(arguments(__doc__), f"{Path(__file__).stem}.json")
    rounds = 1 if options.quick else 5
    for words in WAYS.values():  # the first run also reads the files from disk
        cpu_seconds(words)
    times = [{name: cpu_seconds(words) for name, words in WAYS.items()} for _ in range(rounds)]
    found = {name: median(each[name] for each in times) for name in WAYS}
    rows = [
        {"what": name, "CPU s": took, "beside python": took - found["python -c pass"]}
        for name, took in found.items()
    ]
    report(Path(__file__).stem, options.output, rows, rounds=rounds)


if __name__ == "__main__":
    main()
