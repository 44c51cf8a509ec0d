"""What the speed measurements share: a clock, a unit, an order of repetitions, peak memory.

Unit: one product of the shorter side, k x n by n x k, torch.mm in float32 on one thread, measured
between the other samples of the same run. Times are process CPU time; on CUDA, wall time between
two synchronisations.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from common import Row, as_json, parse, save_figure, write
from common import arguments as common_arguments
from matplotlib.figure import Figure
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from virtualdepth import EndToEndSGD
from virtualdepth.optim import SOLVERS
from virtualdepth.runs import markdown_table, versions

Sample = Callable[[], float]
Job = Callable[[], list[Row]]
Make = Callable[[list[Tensor]], torch.optim.Optimizer]

PRODUCT = "one product"
PACKAGES = ("virtualdepth", "torch", "pytorch_optimizer", "numpy", "scipy", "pytorch-lightning")


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = common_arguments(description)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return parser


def alone(
    description: str | None,
    jobs: Callable[[argparse.Namespace], list[Job]],
    draw: Callable[[list[Row]], Figure] | None = None,
) -> None:
    """Run one part by itself, print its rows, and draw them."""
    stem = Path(sys.argv[0]).stem
    name, picture = f"{stem}.json", f"{stem}.png"
    options = parse(arguments(description), name, picture)
    rows = [row for job in tqdm(jobs(options), disable=None) for row in job()]
    for own in alike(rows):
        print(markdown_table(own), end="\n\n")
    written = {"machine": machine(options.device), "options": vars(options), "rows": rows}
    write(options.output, name, as_json(written))
    if draw is not None:
        save_figure(options.output, picture, draw(rows))


def alike(rows: list[Row]) -> list[list[Row]]:
    """Rows with the same columns, together."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row), []).append(row)
    return list(found.values())


def machine(device: str) -> dict[str, Any]:
    """The versions and the machine, for the JSON file."""
    names = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":")[1].strip() for line in names.splitlines() if "model name" in line]
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "versions": versions(*PACKAGES),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
    }


def commit() -> str | None:
    """The commit that is measured, with "-dirty" where files differ from it; None without git."""
    words = ["git", "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(
            words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return run.stdout.strip() or None


def solvers_at(depth: float, **options: Any) -> list[str]:
    """The solvers of the package that take this depth, without "auto", which picks one of them."""
    found = []
    for solver in SOLVERS:
        if solver != "auto":
            try:
                EndToEndSGD([torch.zeros(2, 2)], depth=depth, solver=solver, **options)
            except ValueError:
                continue
            found.append(solver)
    return found


def seconds(run: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    run()
    return time.process_time() - start


def product(shape: tuple[int, int], device: str) -> Sample:
    """Time the unit of a shape; of small ones many, so that the clock does not show."""
    short, long = sorted(shape)
    left = torch.randn(short, long, device=device)
    right, out = left.mT.contiguous(), torch.empty(short, short, device=device)
    count = max(1, 2**25 // (short * short * long))

    def repeat() -> None:
        for _ in range(count):
            torch.mm(left, right, out=out)

    return lambda: seconds(repeat, device) / count


def interleaved(
    unit: Sample, samples: dict[str, Sample], budget: float, most: int = 25
) -> dict[str, list[float]]:
    """Time everything in turn, the unit in between, each for about ``budget`` seconds.

    Two runs of each come first and are not counted, of slow ones a single one: they make state and
    fill caches.
    """
    rounds = {}
    for name, sample in samples.items():
        warm = getattr(sample, "warm", sample)
        took = warm()
        took = took if took > 1 else warm()
        rounds[name] = min(most, max(1, round(budget / took)))
    times: dict[str, list[float]] = {name: [] for name in (PRODUCT, *samples)}
    for turn in range(max(rounds.values())):
        order = [name for name in samples if turn < rounds[name]]
        for name in order if turn % 2 == 0 else reversed(order):
            times[PRODUCT].append(unit())
            times[name].append(samples[name]())
    return times


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> str:
    return f"{quantile(values, 0.25):.3g} to {quantile(values, 0.75):.3g}"


def counts(optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """At how many steps so far a solver with memory decomposed W, and repaired what it knows."""

    def count(end: str) -> int:
        return sum(
            int(value)
            for state in optimizer.state.values()
            for key, value in state.items()
            if str(key).endswith(end)
        )

    return count("_decomposed"), count("_resynchronised")


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


@contextmanager
def silent() -> Iterator[None]:
    """Drop what torch's profiler writes to the standard error at each start and stop."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """The most memory that ``run`` holds beyond what was there, as torch's allocator sees it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = most = 0
    # the one place where torch gives each allocation with its time
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
