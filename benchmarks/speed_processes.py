"""(e) What do whole processes cost: the main job, and matrix completion?

Each is a process of its own, from starting Python to its exit; its CPU time is its own and that of
its children, user and system. Importing alone stands beside them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from statistics import median

from common import Row
from speed_common import Job, alone

COMPLETION = """
import sys, numpy, torch, virtualdepth as vd
torch.set_num_threads(1)
size, rank, observed = map(int, sys.argv[1:])
draw = numpy.random.default_rng(0)
truth = draw.standard_normal((size, rank)) @ draw.standard_normal((rank, size)) / rank**0.5
hidden = numpy.ones(size * size, dtype=bool)
hidden[draw.permutation(size * size)[:observed]] = False
hidden = hidden.reshape(size, size)
known = numpy.where(hidden, numpy.nan, truth)
filled = vd.estimators.MatrixCompletion("flow", random_state=0).fit(known).completed_
error = ((filled - truth)[hidden] ** 2).mean() / (truth[hidden] ** 2).mean()
print(f"relative squared error {error:.1e} over unobserved entries")
"""


def measure(name: str, words: list[str], repeats: int) -> list[Row]:
    cpu, wall, said = [], [], ""
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [word.replace("FOLDER", f"{folder}/run") for word in words]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            run = subprocess.run(
                [sys.executable, *command], check=True, capture_output=True, text=True
            )
            wall.append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            said = run.stdout.strip()
    lines = [line for line in said.splitlines() if "order" in line or "error" in line]
    return [
        {
            "process": name,
            "CPU s": median(cpu),
            "CPU s, range": f"{min(cpu):.3g} to {max(cpu):.3g}",
            "wall s": median(wall),
            "runs": repeats,
            "says": " ".join(lines[-1:])[:90],
        }
    ]


def jobs(options: argparse.Namespace) -> list[Job]:
    verify = ["-m", "virtualdepth", "verify", "--output", "FOLDER"]
    sizes = ["100", "5", "2000"]
    again = 1 if options.quick else 2
    if options.quick:
        verify, sizes = [*verify, "--time", ".5", "--lrs", ".1,.05"], ["30", "2", "400"]
    processes = {
        "python, import torch": (["-c", "import torch"], again),
        "python, import virtualdepth": (["-c", "import virtualdepth"], again),
        f"virtualdepth {' '.join(verify[2:3] + verify[5:])}": (verify, 1),
        f"matrix completion, {sizes[0]} x {sizes[0]}": (["-c", COMPLETION, *sizes], 1),
    }
    return [partial(measure, name, words, count) for name, (words, count) in processes.items()]


if __name__ == "__main__":
    alone(__doc__, jobs)
