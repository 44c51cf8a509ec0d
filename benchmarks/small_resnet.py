"""Training losses of a small residual network on digits, with and without depth.

Each optimizer's learning rate is the best of a grid, by the training loss at the end on seed 0; the
table is of three other seeds. Ten epochs of batches of 128 of the 1797 images of 8 x 8.
"""

import statistics
from collections.abc import Callable

import torch
from common import Row, arguments, parse, report, save_figure
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

import virtualdepth as vd
from virtualdepth.plotting import color_cycle, draw_grid, figure_grid
from virtualdepth_lab.reproduce.search import best_of


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inside = relu(self.norms[0](self.first(x)))
        return relu(x + self.norms[1](self.second(inside)))


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        Block(16),
        Block(16),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


Make = Callable[[nn.Module, float], torch.optim.Optimizer]


def ours(depth: float, step_scale: str) -> Make:
    return lambda model, lr: vd.EndToEndSGD(
        vd.param_groups(model, depth), lr=lr, momentum=0.9, step_scale=step_scale
    )


def adamw(depth: float, on: str, **options: str) -> Make:
    def make(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return vd.with_depth(
            torch.optim.AdamW(vd.param_groups(model, depth), lr=lr), depth, on=on, **options
        )

    return make


SGD_RATES, ADAM_RATES = (0.01, 0.03, 0.1, 0.3), (1e-3, 3e-3, 1e-2, 3e-2)
OPTIMIZERS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "SGD": (
        lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9),
        SGD_RATES,
    ),
    "EndToEndSGD, depth 2, raw": (ours(2, "raw"), SGD_RATES),
    "EndToEndSGD, depth 2, unit": (ours(2, "unit"), SGD_RATES),
    "EndToEndSGD, depth 3, raw": (ours(3, "raw"), SGD_RATES),
    "EndToEndSGD, depth 3, unit": (ours(3, "unit"), SGD_RATES),
    "AdamW": (lambda model, lr: torch.optim.AdamW(model.parameters(), lr=lr), ADAM_RATES),
    "AdamW, depth 2 on gradient": (adamw(2, "gradient", step_scale="raw"), ADAM_RATES),
    "AdamW, depth 2 on update": (adamw(2, "update", step_scale="raw"), ADAM_RATES),
    "AdamW, depth 2 on update, unit": (adamw(2, "update", step_scale="unit"), ADAM_RATES),
}


def run(make: Make, lr: float, seed: int, epochs: int) -> dict[str, object]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    model = network(seed)
    optimizer = make(model, lr)
    generator = torch.Generator().manual_seed(seed)
    curve = []
    for _ in range(epochs):
        losses = []
        for batch in torch.randperm(len(labels), generator=generator).split(128):
            optimizer.zero_grad()
            loss = cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            try:
                optimizer.step()
            except FloatingPointError:
                return {"end": float("inf"), "curve": curve}
            losses.append(loss.item())
        curve.append(statistics.mean(losses))
    return {"end": curve[-1], "curve": curve}


def draw(runs: dict[str, list[Row]]) -> Figure:
    figure, [[ax]] = figure_grid(size=(7.5, 4.2))
    for (name, own), color in zip(runs.items(), color_cycle(len(runs)), strict=True):
        curves = torch.tensor([each["curve"] for each in own])
        epochs = range(1, curves.shape[1] + 1)
        style = "--" if name.startswith("AdamW") else "-"
        ax.semilogy(epochs, curves.mean(0), style, color=color, label=name)
    ax.set_xlabel("epoch")
    ax.set_ylabel("training loss, mean of 3 seeds")
    draw_grid(ax)
    ax.legend(fontsize=8)
    return figure


def main() -> None:
    options = parse(arguments(__doc__), "small_resnet.json", "small_resnet.png")
    epochs = 1 if options.quick else 10
    rows, runs, grids = [], {}, {}
    for name, (make, rates) in OPTIMIZERS.items():
        grids[name] = {lr: run(make, lr, 0, epochs)["end"] for lr in rates}
        lr = best_of(grids[name], lambda end: end)
        runs[name] = [run(make, lr, seed, epochs) for seed in (1, 2, 3)]
        ends = [each["end"] for each in runs[name]]
        seeds = {f"seed {seed}": end for seed, end in zip((1, 2, 3), ends, strict=True)}
        rows.append({"optimizer": name, "lr": lr, **seeds, "mean": statistics.mean(ends)})
        print(rows[-1], flush=True)
    report("small_resnet", options.output, rows, grids=grids, runs=runs, epochs=epochs)
    save_figure(options.output, "small_resnet.png", draw(runs))


if __name__ == "__main__":
    main()
