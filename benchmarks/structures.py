"""What a step of each structure costs, beside torch.optim.SGD and one pass over the numbers.

A million float32 numbers, or nine, depth 3, without momentum. A round takes one step of each, one
after the other; the medians of the rounds are printed, and their ratios. A pass is torch.mul of two
tensors of that size into a third.
"""

import statistics
import time
from collections.abc import Callable

import torch
from common import Row, arguments, parse, report
from torch import nn

from virtualdepth import EndToEndSGD

SHAPES: dict[str, tuple[int, ...]] = {
    "diagonal": (1_000_000,),
    "rows": (1000, 1000),
    "columns": (1000, 1000),
    "rows, nine million": (3000, 3000),  # above 32 MB fresh memory costs as much as the arithmetic
    "circulant": (1000, 1000),
    "circulant, one signal": (1_000_000,),
}
IMBALANCES = (0.0, 1e-3)
SCALES = ("raw", "unit")


def steps_of(shape: tuple[int, ...], structure: str) -> dict[str, Callable[[], object]]:
    """What is timed: name -> one step."""
    generator = torch.Generator().manual_seed(0)

    def parameter() -> nn.Parameter:
        made = nn.Parameter(torch.randn(shape, generator=generator))
        made.grad = torch.randn(shape, generator=generator)
        return made

    first, second, product = (torch.randn(shape) for _ in range(3))
    timed: dict[str, Callable[[], object]] = {
        "pass": lambda: torch.mul(first, second, out=product),
        "SGD": torch.optim.SGD([parameter()], lr=1e-6).step,
    }
    if structure.startswith("circulant"):
        timed["rfft and irfft"] = lambda: torch.fft.irfft(torch.fft.rfft(first), n=shape[-1])
    for scale in SCALES:
        for imbalance in IMBALANCES:
            optimizer = EndToEndSGD(
                [parameter()],
                lr=1e-6,
                depth=3,
                structure=structure.split(",")[0],  # type: ignore[arg-type]
                imbalance=imbalance,
                step_scale=scale,  # type: ignore[arg-type]
            )
            timed[f"{scale}, imbalance {imbalance:g}"] = optimizer.step
    return timed


def medians(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time, taken in turn so that the machine's load is the same."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, function in timed.items():
            start = time.process_time()
            function()
            seconds[name].append(time.process_time() - start)
    return {name: 1e3 * statistics.median(each[1:] or each) for name, each in seconds.items()}


def main() -> None:
    options = parse(arguments(__doc__), "structures.json")
    rows: list[Row] = []
    for structure, shape in SHAPES.items():
        found = medians(steps_of(shape, structure), 2 if options.quick else 30)
        rows += [
            {
                "structure": structure,
                "step": name,
                "ms": f"{taken:.3g}",
                "of SGD": f"{taken / found['SGD']:.3g}",
                "passes": f"{taken / found['pass']:.3g}",
            }
            for name, taken in found.items()
        ]
    report("structures", options.output, rows)


if __name__ == "__main__":
    main()
