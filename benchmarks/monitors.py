"""What do the callbacks cost, and how near do runs come to the theory that one of them draws?

Cost: `virtualdepth verify` with its defaults, alternately without and with monitors at an interval
of 50 steps, in CPU time of this process. Error: DynamicsMonitor's relative error on digits at three
learning rates.
"""

import io
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from common import arguments, parse, report
from pytorch_lightning import Callback, Trainer

import virtualdepth as vd
from virtualdepth.cli import main as virtualdepth
from virtualdepth.data import load_problem
from virtualdepth.verify import _training as training

INTERVAL, DEPTH, TIME = 50, 3, 20
RATES = (0.1, 0.05, 0.025)
MONITORS: dict[str, Callable[[], Callback]] = {
    "SpectrumMonitor": partial(vd.lightning.SpectrumMonitor, interval=INTERVAL),
    "BalancednessMonitor": partial(vd.lightning.BalancednessMonitor, interval=INTERVAL),
    "AlignmentMonitor": partial(vd.lightning.AlignmentMonitor, interval=INTERVAL),
    "DynamicsMonitor": partial(vd.lightning.DynamicsMonitor, interval=INTERVAL),
    "GapMonitor": partial(vd.lightning.GapMonitor, interval=INTERVAL),
    "LossDescentMonitor": partial(
        vd.lightning.LossDescentMonitor, "deep", loss="loss_deep", interval=INTERVAL
    ),
}


def verify(names: Sequence[str], quick: bool) -> tuple[float, list[Callback]]:
    """CPU seconds of one `virtualdepth verify`, and the monitors of its last learning rate."""
    made: list[Callback] = []

    def monitored(*, callbacks: list[Callback], **options: Any) -> Trainer:
        made[:] = [MONITORS[name]() for name in names]
        return Trainer(callbacks=[*callbacks, *made], **options)

    training.Trainer = monitored  # type: ignore[assignment, misc]
    shorter = ["--time", "2"] if quick else []
    try:
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            start = time.process_time()
            virtualdepth(["verify", "--output", f"{folder}/run", *shorter])
            return time.process_time() - start, made
    finally:
        training.Trainer = Trainer  # type: ignore[misc]


def figures(monitors: list[Callback]) -> tuple[int, float]:
    """How many figures the monitors have, and the CPU seconds of drawing them as PNG."""
    start = time.process_time()
    drawn = [figure for monitor in monitors for figure in monitor.figures().values()]
    for figure in drawn:
        figure.savefig(io.BytesIO())
    return len(drawn), time.process_time() - start


def overhead(variants: dict[str, Sequence[str]], repeats: int, quick: bool) -> list[dict[str, Any]]:
    verify(list(MONITORS), quick)  # imports, caches
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats):
        order = list(variants)
        for name in order if repeat % 2 == 0 else reversed(order):
            seconds[name].append(verify(variants[name], quick)[0])
    plain = statistics.median(seconds["none"])
    return [
        {
            "monitors": name,
            "CPU s, median": statistics.median(values),
            "CPU s, range": f"{min(values):.3g} to {max(values):.3g}",
            "overhead": f"{statistics.median(values) / plain - 1:+.1%}",
            "overhead of the fastest": f"{min(values) / min(seconds['none']) - 1:+.1%}",
        }
        for name, values in seconds.items()
    ]


def dynamics(lr: float, interval: int, steps: int) -> dict[str, dict[str, Any]]:
    """The series of DynamicsMonitor, of the single layer and of the deep network."""
    problem = load_problem("digits")
    monitor = vd.lightning.DynamicsMonitor(interval=interval)
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=steps,
        callbacks=[monitor],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with trainer.init_module():
        shape = problem.inputs.shape[1], problem.targets.shape[1]
        module = vd.lightning.EquivalenceModule(*shape, depth=DEPTH, lr=lr)
    trainer.fit(module, datamodule=vd.lightning.TensorDataModule(problem.inputs, problem.targets))
    return monitor.series


def errors(interval: int, quick: bool) -> list[dict[str, Any]]:
    rows = []
    for lr in RATES:
        series = dynamics(lr, interval, round((2 if quick else TIME) / lr))
        for name, columns in series.items():
            found = [error for error in columns["relative_error"] if not math.isnan(error)]
            pairs = zip(columns["sigma"][-1], columns["theory"][-1], strict=True)
            rows.append(
                {
                    "interval": interval,
                    "model": name,
                    "learning rate": lr,
                    "relative error, median": statistics.median(found),
                    "largest": max(found),
                    "farthest curve at the end": max(abs(s - t) / s for s, t in pairs),
                }
            )
    return sorted(rows, key=lambda row: row["model"])


def main() -> None:
    parser = arguments("What the monitors cost, and how near theory and runs are")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--each", action="store_true", help="measure each monitor alone too")
    parser.add_argument("--no-cost", action="store_true", help="the errors only")
    options = parse(parser, "monitors_error.json", "monitors_cost.json")
    every = [row for interval in (1, 10) for row in errors(interval, options.quick)]
    report("monitors_error", options.output, every)
    if options.no_cost:
        return
    variants: dict[str, Sequence[str]] = {"none": [], "all": list(MONITORS)}
    if options.each:
        variants |= {name: [name] for name in MONITORS}
    rows = overhead(variants, 1 if options.quick else options.repeats, options.quick)
    _, monitors = verify(list(MONITORS), options.quick)
    count, seconds = figures(monitors)
    report("monitors_cost", options.output, rows, figures=count, figure_seconds=seconds)
    print(f"drawing the {count} figures of one run: {seconds:.2f} s of CPU time")


if __name__ == "__main__":
    main()
