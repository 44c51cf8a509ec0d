"""Training losses at equal steps and at equal time, by how often W is decomposed.

    python benchmarks/frequency_curves.py      # five minutes on one core

The residual network of small_resnet.py on digits, by EndToEndSGD at depth 2; and the character
transformer of precondition_frequency.py, 0.8 million parameters, on the topics of Python's own
help, by AdamW with depth 2 on its updates. Both with step_scale="unit", one learning rate, and two
seeds, which take the same batches at every frequency. Time is the CPU time of whole training steps,
of one thread. A curve is the mean over the seeds of a running mean.
"""

import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pydoc_data.topics import topics
from statistics import mean

import torch
from common import Row, arguments, parse, report, save_figure
from matplotlib.figure import Figure
from precondition_frequency import Characters
from sklearn.datasets import load_digits
from small_resnet import network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

FREQUENCIES, SEEDS = (1, 10, 30), (0, 1)
CONTEXT = 32

Batches = Iterator[tuple[Tensor, Tensor]]
Problem = tuple[
    Callable[[int], nn.Module],
    Callable[[nn.Module, int], torch.optim.Optimizer],
    Callable[[int], Batches],
]


def resnet_optimizer(model: nn.Module, frequency: int) -> torch.optim.Optimizer:
    groups = vd.param_groups(model, 2, precondition_frequency=frequency)
    return vd.EndToEndSGD(groups, lr=0.1, momentum=0.9, step_scale="unit")


def digits(seed: int) -> Batches:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels, generator = torch.tensor(data.target), torch.Generator().manual_seed(seed)
    while True:
        for batch in torch.randperm(len(labels), generator=generator).split(128):
            yield images[batch], labels[batch]


def transformer(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Characters()


def transformer_optimizer(model: nn.Module, frequency: int) -> torch.optim.Optimizer:
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3)
    options = {"on": "update", "step_scale": "unit", "precondition_frequency": frequency}
    return vd.with_depth(adamw, 2, model=model, **options)


@cache
def text() -> Tensor:
    """The topics as numbers below 65: the 64 most frequent characters, and one for the others."""
    whole = "\n".join(topics.values())
    often = sorted(set(whole), key=whole.count, reverse=True)[:64]
    numbers = {character: number for number, character in enumerate(often)}
    return torch.tensor([numbers.get(character, 64) for character in whole])


def passages(seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text()) - CONTEXT, (16, 1), generator=generator)
        found = text()[starts + torch.arange(CONTEXT + 1)]
        yield found[:, :-1], found[:, 1:]


PROBLEMS: dict[str, tuple[Problem, int]] = {
    "residual network, digits": ((network, resnet_optimizer, digits), 150),
    "character transformer": ((transformer, transformer_optimizer, passages), 200),
}


def run(problem: Problem, frequency: int, seed: int, count: int) -> tuple[list[float], list[float]]:
    """The loss before each step, and the CPU time after it."""
    make, optimize, batches = problem
    model = make(seed)
    optimizer = optimize(model, frequency)
    losses, times, spent = [], [], 0.0
    for inputs, targets in islice(batches(seed), count):
        start = time.process_time()
        optimizer.zero_grad()
        scores = model(inputs)
        loss = cross_entropy(scores.flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
        spent += time.process_time() - start
        losses.append(loss.item())
        times.append(spent)
    return losses, times


def smooth(runs: list[list[float]], width: int) -> list[float]:
    """The mean over runs of the mean of the last ``width`` values."""
    whole = torch.tensor(runs).mean(0)
    sums = torch.cat([torch.zeros(1), whole.cumsum(0)])
    return ((sums[width:] - sums[:-width]) / width).tolist()


def draw(curves: dict[str, dict[int, tuple[list[float], list[float]]]], width: int) -> Figure:
    figure, panels = figure_grid(len(curves), 2, size=(4.6, 3.2))
    for (problem, own), row in zip(curves.items(), panels, strict=True):
        for frequency, color in zip(own, PALETTE, strict=False):
            losses, times = own[frequency]
            for ax, x in zip(row, (range(width, width + len(losses)), times), strict=True):
                ax.semilogy(x, losses, color=color, label=f"frequency {frequency}")
        for ax, label in zip(row, ("step", "CPU seconds"), strict=True):
            ax.set_xlabel(label)
            ax.set_title(problem, fontsize=9)
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:.2g}" if max(losses) < 10 * min(losses) else "")
            draw_grid(ax)
        row[0].set_ylabel("training loss")
        row[1].legend(fontsize=8)
    return figure


def main() -> None:
    options = parse(arguments(__doc__), "frequency_curves.json", "frequency_curves.png")
    seeds, width = (SEEDS[:1], 2) if options.quick else (SEEDS, 10)
    rows: list[Row] = []
    curves: dict[str, dict[int, tuple[list[float], list[float]]]] = {}
    with tqdm(total=len(PROBLEMS) * len(FREQUENCIES) * len(seeds), disable=None) as bar:
        for name, (problem, count) in PROBLEMS.items():
            count = 4 if options.quick else count
            found: dict[int, list[tuple[list[float], list[float]]]] = {f: [] for f in FREQUENCIES}
            for seed in seeds:
                for frequency in FREQUENCIES:
                    found[frequency].append(run(problem, frequency, seed, count))
                    bar.update()
            curves[name] = {}
            for frequency, runs in found.items():
                losses = smooth([each for each, _ in runs], width)
                times = torch.tensor([each for _, each in runs]).mean(0).tolist()
                curves[name][frequency] = losses, times[width - 1 :]
                rows.append(
                    {
                        "problem": name,
                        "frequency": frequency,
                        "loss at the end": losses[-1],
                        "of each seed": ", ".join(f"{mean(each[-width:]):.3g}" for each, _ in runs),
                        "CPU ms a step": 1e3 * times[-1] / count,
                    }
                )
            least = min(times[-1] for _, times in curves[name].values())
            for row in rows[-len(FREQUENCIES) :]:
                losses, times = curves[name][row["frequency"]]
                row["loss at equal time"] = losses[sum(each <= least for each in times) - 1]
    report("frequency_curves", options.output, rows, curves=curves)
    save_figure(options.output, "frequency_curves.png", draw(curves, width))


if __name__ == "__main__":
    main()
