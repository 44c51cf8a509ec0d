"""What a study costs over running its cells bare, and what a second worker saves.

Cells of fixed work, about two seconds on one thread: bare, in one process that loops over them;
then as a study with one worker and with two, all of it interleaved. "between cells" is the time of
the worker that its cells did not take, from the start of the first to the end of the last; "whole
command" includes starting Python and loading torch, twice for a study, and the report. With --sleep
the cells wait instead: what the study itself costs, on a machine that is busy with other things.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import torch
from common import arguments, parse, report

from virtualdepth_lab.ablate.storage import CellStorage, quiet_optuna

HERE = Path(__file__).parent


SECONDS = 2.0  # of a cell


class Work:
    """A fixed number of singular value decompositions; of none, a pause."""

    def __init__(self, repeats: int, seed: int) -> None:
        self.repeats, self.seed = repeats, seed

    def train(self, steps: int | None, report: Any = None) -> dict[str, float]:
        if self.repeats == 0:
            time.sleep(SECONDS)
            return {"sigma": 0.0}
        generator = torch.Generator().manual_seed(self.seed)
        matrix, total = torch.randn(60, 60, generator=generator, dtype=torch.float64), 0.0
        for _ in range(self.repeats):
            total += float(torch.linalg.svd(matrix, full_matrices=False)[1][0])
        return {"sigma": total / self.repeats}


def factory(repeats: int, x: int = 0, seed: int = 0) -> Work:
    return Work(repeats, seed)


def bare(repeats: int, cells: int) -> None:
    torch.set_num_threads(1)
    for x in range(cells):
        factory(repeats, x).train(None)


def calibrate(seconds: float) -> int:
    torch.set_num_threads(1)
    Work(200, 0).train(None)
    begin = time.process_time()
    Work(1000, 0).train(None)
    return round(1000 * seconds / (time.process_time() - begin))


def run_bare(repeats: int, cells: int) -> float:
    script = f"import study_overhead; study_overhead.bare({repeats}, {cells})"
    return timed([sys.executable, "-c", script])


def timed(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, cwd=HERE, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def run_study(repeats: int, cells: int, workers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "overhead.yaml")
        study.write_text(
            "problem: study_overhead:factory\nobjective: sigma\n"
            f"settings: {{repeats: {repeats}}}\ngrid: {{x: {list(range(cells))}}}\n"
        )
        words = ["ablate", str(study), "--workers", str(workers), "--output", f"{folder}/run"]
        wall = timed([sys.executable, "-m", "virtualdepth", *words])
        url = f"sqlite:///{folder}/run/study.db"
        with quiet_optuna(), closing(CellStorage(url)) as storage:
            trials = optuna.load_study(study_name="overhead", storage=storage).get_trials()
    first = min(trial.datetime_start for trial in trials)
    last = max(trial.datetime_complete for trial in trials)
    inside = sum(trial.user_attrs["result"]["seconds"] for trial in trials)
    return {"wall": wall, "span": (last - first).total_seconds(), "inside": inside}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sleep", action="store_true", help="cells that wait")
    options = parse(parser, "study_overhead.json", "study_overhead_sleep.json")
    os.environ["OMP_NUM_THREADS"] = "1"
    cells, rounds = (4, 1) if options.quick else (24, 3)
    repeats = 0 if options.sleep else calibrate(SECONDS)
    rows = []
    for _ in range(rounds):
        alone = run_bare(repeats, cells)
        one, two = (run_study(repeats, cells, workers) for workers in (1, 2))
        rows.append(
            {
                "cells": cells,
                "seconds of a cell": one["inside"] / cells,
                "bare, s": alone,
                "1 worker, s": one["wall"],
                "2 workers, s": two["wall"],
                "between cells, %": 100 * (one["span"] / one["inside"] - 1),
                "whole command, %": 100 * (one["wall"] / alone - 1),
                "speed-up of the cells": one["span"] / two["span"],
                "speed-up of the command": one["wall"] / two["wall"],
                "load": os.getloadavg()[0],
            }
        )
    rows.append({name: median(row[name] for row in rows) for name in rows[0]})
    report("study_overhead_sleep" if options.sleep else "study_overhead", options.output, rows)


if __name__ == "__main__":
    main()
