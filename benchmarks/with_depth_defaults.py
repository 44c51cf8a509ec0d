"""Which `on` and `step_scale` serve best in with_depth: five tasks, two optimizers, four ways.

    python benchmarks/with_depth_defaults.py      # 25 minutes on one core

A second run into the same folder goes on after the last task that is there.

Each way has a rate of its own, the best of six on seed 0 by the loss on held-out data; the loss is
then that of three other seeds at this rate, and at the rate that is best for the optimizer without
depth, which is what someone sees who adds depth to a loop that runs. Depth is 2, the schedule
a cosine to zero. "Loss" is the median over the seeds, divided by that of the optimizer without
depth at its own best rate; a run that ends with an error counts as infinite.

- few digits: a network 64-64-10 on 200 images, loss on 597 others.
- residual network: that of small_resnet.py, five epochs of 1200 digits, loss on the others.
- autoencoder: 64-32-8-32-64 with tanh, squared error on digits that it has not seen.
- characters: a transformer of 0.1 million parameters on Python's own help, loss on later pages.
- completion: 60 x 60 of rank 3 from a third of its entries, batches of 200, start of scale 1e-2,
  squared error of the other entries.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from common import Row, arguments, into_docs, parse, report, save_figure
from frequency_curves import text
from matplotlib.figure import Figure
from precondition_frequency import Characters
from sklearn.datasets import load_digits
from small_resnet import network as residual_network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid
from virtualdepth.runs import in_words, markdown_table

PAGE = Path(__file__).parents[1] / "docs/choosing_measured.md"
NAME = "with_depth_defaults"
OWN, SAME = "own rate", "same rate"
DEPTH, SEEDS, TUNED_ON = 2, (1, 2, 3), 0
CONTEXT, BATCH = 32, 16
PLAIN = "without depth"
WAYS: dict[str, dict[str, str]] = {
    PLAIN: {},
    "gradient, raw": {"on": "gradient", "step_scale": "raw"},
    "gradient, unit": {"on": "gradient", "step_scale": "unit"},
    "update, raw": {"on": "update", "step_scale": "raw"},
    "update, unit": {"on": "update", "step_scale": "unit"},
}
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, ...]]] = {
    "AdamW": (torch.optim.AdamW, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "SGD, momentum 0.9": (
        lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9),
        (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    ),
}

Loss = Callable[[], Tensor]
Task = Callable[[torch.Generator], tuple[nn.Module, Iterator[Loss], Callable[[], Tensor]]]


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


def digits(generator: torch.Generator, train: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, and others."""
    data = load_digits()
    images, labels = torch.tensor(data.images / 16, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=generator)
    seen, others = order[:train], order[1200:]
    return images[seen], labels[seen], images[others], labels[others]


def classification(
    model: nn.Module, train: int, size: int, shape: tuple[int, ...], generator: torch.Generator
) -> Any:
    images, labels, others, answers = digits(generator, train)
    images, others = images.reshape(-1, *shape), others.reshape(-1, *shape)
    losses = (
        lambda batch=batch: cross_entropy(model(images[batch]), labels[batch])
        for batch in batches(train, size, generator)
    )
    return model, losses, lambda: cross_entropy(model(others), answers)


def few_digits(generator: torch.Generator) -> Any:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return classification(model, 200, 50, (64,), generator)


def residual(generator: torch.Generator) -> Any:
    model = residual_network(int(generator.initial_seed()))
    return classification(model, 1200, 100, (1, 8, 8), generator)


def autoencoder(generator: torch.Generator) -> Any:
    widths = (64, 32, 8, 32)
    inside = [each for a, b in pairwise(widths) for each in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*inside, nn.Linear(32, 64))
    images, _, others, _ = digits(generator, 1200)
    images, others = images.flatten(1), others.flatten(1)
    losses = (
        lambda batch=batch: mse_loss(model(images[batch]), images[batch])
        for batch in batches(1200, 100, generator)
    )
    return model, losses, lambda: mse_loss(model(others), others)


def characters(generator: torch.Generator) -> Any:
    model, split = Characters(width=64, blocks=2), int(0.9 * len(text()))

    def loss(low: int, high: int, count: int) -> Tensor:
        starts = torch.randint(low, high - CONTEXT, (count, 1), generator=generator)
        passages = text()[starts + torch.arange(CONTEXT + 1)]
        return cross_entropy(model(passages[:, :-1]).flatten(0, 1), passages[:, 1:].flatten())

    def losses() -> Iterator[Loss]:
        while True:
            yield lambda: loss(0, split, BATCH)

    def later() -> Tensor:
        generator.manual_seed(0)
        return loss(split, len(text()), 256)

    return model, losses(), later


def completion(generator: torch.Generator) -> Any:
    left, right = torch.randn(2, 60, 3, generator=generator)
    truth = left @ right.T / 3**0.5
    order = torch.randperm(3600, generator=generator)
    seen, others = order[:1200], order[1200:]
    model = vd.init.balanced_(nn.Linear(60, 60, bias=False), 1e-2, generator=generator)

    def error(places: Tensor) -> Tensor:
        return (model.weight - truth).flatten()[places].square()

    losses = (
        lambda batch=batch: error(seen[batch]).sum() / 2 for batch in batches(1200, 200, generator)
    )
    return model, losses, lambda: error(others).mean()


TASKS: dict[str, tuple[Task, int]] = {
    "few digits": (few_digits, 200),
    "residual network": (residual, 60),
    "autoencoder": (autoencoder, 400),
    "characters": (characters, 250),
    "completion": (completion, 600),
}


def run(task: str, optimizer: str, way: str, lr: float, seed: int, quick: bool) -> float:
    """Return the loss on held-out data at the end."""
    torch.manual_seed(seed)
    make, steps = TASKS[task]
    steps = 3 if quick else steps
    model, losses, held_out = make(torch.Generator().manual_seed(seed))
    made = OPTIMIZERS[optimizer][0](model.parameters(), lr)
    if way != PLAIN:
        options: dict[str, Any] = WAYS[way]
        vd.with_depth(made, DEPTH, model=model, **options)
    schedule = CosineAnnealingLR(made, steps)
    try:
        for loss in islice(losses, steps):
            made.zero_grad()
            loss().backward()
            made.step()
            schedule.step()
    except FloatingPointError:
        return math.inf
    model.eval()
    with torch.no_grad():
        end = held_out().item()
    return end if math.isfinite(end) else math.inf


def draw(rows: list[Row]) -> Figure:
    figure, panels = figure_grid(1, len(OPTIMIZERS), size=(5.2, 3.6))
    for ax, optimizer in zip(panels[0], OPTIMIZERS, strict=True):
        for place, (way, color) in enumerate(zip(list(WAYS)[1:], PALETTE, strict=False)):
            own = [row for row in rows if (row["optimizer"], row["way"]) == (optimizer, way)]
            places = [index + 0.15 * (place - 1.5) for index in range(len(TASKS))]
            for key, marker, face in ((OWN, "o", color), (SAME, "s", "none")):
                values = [min(row[key], 10.0) for row in own]
                label = f"{way}; {key}"
                ax.plot(places, values, marker, color=color, mfc=face, ms=5, label=label)
        ax.axhline(1, color="k", lw=0.8)
        ax.set_yscale("log")
        ax.set_xticks(range(len(TASKS)), list(TASKS), rotation=20, fontsize=8)
        ax.set_title(optimizer, fontsize=9)
        draw_grid(ax)
    panels[0][0].set_ylabel("held-out loss over that without depth\n(10: ten times or more)")
    panels[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def compare(task: str, quick: bool) -> Iterator[Row]:
    """One row for each optimizer and way."""
    for optimizer, (_, rates) in OPTIMIZERS.items():
        least, stock = math.nan, math.nan
        for way in WAYS:
            tuned = {lr: run(task, optimizer, way, lr, TUNED_ON, quick) for lr in rates}
            own = min(rates, key=tuned.__getitem__)
            stock = own if way == PLAIN else stock
            ends = {
                lr: [run(task, optimizer, way, lr, seed, quick) for seed in SEEDS]
                for lr in {own, stock}
            }
            least = statistics.median(ends[own]) if way == PLAIN else least
            yield {
                "task": task,
                "optimizer": optimizer,
                "way": way,
                "lr": own,
                "at the edge": own in (rates[0], rates[-1]),
                OWN: statistics.median(ends[own]) / least,
                "least": min(ends[own]) / least,
                "largest": max(ends[own]) / least,
                SAME: statistics.median(ends[stock]) / least,
            }


def means(rows: list[Row]) -> list[Row]:
    """Geometric means over tasks and optimizers; a run that ended with an error counts as 10."""
    found = []
    for way in list(WAYS)[1:]:
        own = [row for row in rows if row["way"] == way]
        logs = {key: [math.log(min(row[key], 10)) for row in own] for key in (OWN, SAME)}
        found.append({"way": way} | {key: math.exp(statistics.mean(logs[key])) for key in logs})
    return found


def by_task(rows: list[Row]) -> list[Row]:
    """What the docs show: each cell is the loss at the own rate / at the rate without depth."""

    def number(value: float) -> str:
        return f"{value:.2g}" if value < 0.1 else f"{value:.2f}" if value < 10 else "∞"

    found: list[Row] = []
    for row in rows:
        if row["way"] == PLAIN:
            found.append({"task": f"{row['task']}, {row['optimizer'].split(',')[0]}"})
        else:
            found[-1][row["way"]] = f"{number(row[OWN])} / {number(row[SAME])}"
    mean = {row["way"]: f"{number(row[OWN])} / {number(row[SAME])}" for row in means(rows)}
    return [*found, {"task": "geometric mean"} | mean]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs")
    options = parse(parser, f"{NAME}.json", f"{NAME}.png")
    kept = options.output / f"{NAME}.json"
    rows: list[Row] = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.exists() else []
    for row in rows:
        row |= {key: math.inf for key, value in row.items() if value == "inf"}
    with tqdm(total=len(TASKS) * len(OPTIMIZERS) * len(WAYS), disable=None) as bar:
        bar.update(len(rows))
        for task in TASKS:
            if all(row["task"] != task for row in rows):
                for row in compare(task, options.quick):
                    rows.append(row)
                    bar.update()
                report(NAME, options.output, rows, means=means(rows))
    print(markdown_table(in_words(means(rows))))
    if options.docs:
        into_docs({"with_depth": markdown_table(by_task(rows))}, PAGE)
    save_figure(options.output, f"{NAME}.png", draw(rows))


if __name__ == "__main__":
    main()
