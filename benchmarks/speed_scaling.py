"""(d) How does the cost of a step grow with depth and with size, and where does its time go?

One square matrix of each solver, as in speed_steps.py; over depth at a learning rate of 3e-3 / N.
The profile is of "tracked" at its quiet steps, by operation, as torch's profiler sees it: its own
time, without what it calls.
"""

import argparse
import math
from functools import partial
from statistics import linear_regression, median

from common import Row
from speed_common import (
    PRODUCT,
    Job,
    alone,
    interleaved,
    product,
    silent,
    solvers_at,
)
from speed_steps import Stepper, ours, own_contenders
from torch.profiler import ProfilerActivity, profile

DEPTHS = (1.5, 2, 3, 4, 8, 16, 64, math.inf)


def rate(depth: float) -> float:
    """Steps of about one length: P grows like N, and at inf it is P / N."""
    return 3e-3 if math.isinf(depth) else 3e-3 / depth


def along_depth(size: int, depths: tuple[float, ...], device: str, budget: float) -> list[Row]:
    steppers = {
        (solver, depth): Stepper(ours(solver, depth, rate(depth)), (size, size), device)
        for depth in depths
        for solver in solvers_at(depth)
        if solver != "layers" or depth <= 16
    }
    samples = {f"{solver} {depth}": steppers[solver, depth] for solver, depth in steppers}
    times = interleaved(product((size, size), device), dict(samples), budget)
    unit = median(times[PRODUCT])
    return [
        {
            "against": "depth",
            "d": size,
            "depth": depth,
            "solver": solver,
            "products": median(times[f"{solver} {depth}"]) / unit,
            "ms": 1e3 * median(times[f"{solver} {depth}"]),
        }
        for solver, depth in steppers
    ]


def along_size(size: int, device: str, budget: float) -> list[Row]:
    steppers = {
        name: Stepper(make, (size, size), device)
        for name, make in own_contenders().items()
        if "momentum" not in name
    }
    times = interleaved(product((size, size), device), dict(steppers), budget)
    unit = median(times[PRODUCT])
    depths = {name: each.optimizer.param_groups[0]["depth"] for name, each in steppers.items()}
    return [
        {
            "against": "d",
            "d": size,
            "depth": depths.get(name),
            "solver": name,
            "products": median(own) / unit,
            "ms": 1e3 * median(own),
        }
        for name, own in times.items()
    ]


def slopes(rows: list[Row]) -> list[Row]:
    """Least squares of log time over log d, from the middle size on; and the spread over depth."""
    found = []
    for solver in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == solver]
        sized = [row for row in own if row["against"] == "d"]
        sized = sized[len(sized) // 2 :] if len(sized) > 3 else sized
        x, y = ([math.log(row[key]) for row in sized] for key in ("d", "ms"))
        deep = [row["ms"] for row in own if row["against"] == "depth"]
        found.append(
            {
                "solver": solver,
                "from d": sized[0]["d"],
                "to d": sized[-1]["d"],
                "slope of log time": linear_regression(x, y).slope,
                "slowest depth / fastest depth": max(deep) / min(deep) if deep else None,
            }
        )
    return found


def where_time_goes(size: int, steps: int = 5) -> list[Row]:
    if "tracked" not in solvers_at(3):
        return []
    stepper = Stepper(ours("tracked", 3), (size, size), "cpu")
    for _ in range(3):
        stepper.warm()
    with silent(), profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            stepper.warm()
    events = recorded.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    quiet = sum(easy for _, easy in stepper.steps[3:])
    return [
        {
            "against": "profile",
            "d": size,
            "operation": event.key,
            "calls a step": event.count / steps,
            "share": event.self_cpu_time_total / total,
            "quiet steps": f"{quiet} of {steps}",
        }
        for event in sorted(events, key=lambda event: -event.self_cpu_time_total)[:10]
    ]


def jobs(options: argparse.Namespace) -> list[Job]:
    sizes, deep, depths, budget = (64, 128, 256, 512, 1024), 256, DEPTHS, 0.25
    if options.device == "cuda":
        sizes, deep = (1024, 2048, 4096, 8192), 1024
    if options.quick:
        sizes, deep, depths, budget = (32, 64, 128), 64, (1.5, 2, 3, 8, math.inf), 0.02
    sized = [partial(along_size, size, options.device, budget * size / 256) for size in sizes]
    profiles: list[Job] = [] if options.device == "cuda" else [partial(where_time_goes, deep * 2)]
    return [partial(along_depth, deep, depths, options.device, budget), *sized, *profiles]


if __name__ == "__main__":
    alone(__doc__, jobs)
