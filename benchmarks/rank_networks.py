"""How thin can a trained network be made? Accuracy against kept weights, by way of training.

A network 784-128-128-10 on MNIST, 10,000 images, five epochs, batches of 100, rates falling to 0 as
a cosine. Each way of training has eight trials of a rate and a penalty, drawn by the same generator
from its own ranges, on one seed; the trial with the most correct answers at 10 % of the weights, of
5,000 held-out images, is run on three other seeds. Each network is truncated by
virtualdepth.factorize with one tolerance for all layers, by the weights alone and whitened by the
inputs of 1,000 training images, to each share of its weights. Accuracies are of 10,000
further images, in per cent.

- SGD, AdamW: weight decay.
- AdamW, nuclear: after each step singular values shrink by rate times penalty (proximal step).
- factors: each layer is two layers of full width without a bias between, AdamW with decay.
- EndToEndSGD, depth 2 and 3: weight decay, step_scale="unit", precondition_frequency=10.
- with_depth, depth 2 and 3: AdamW's updates preconditioned, decay on the weights.
"""

import statistics
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from common import Row, arguments, parse, report, save_figure
from matplotlib.figure import Figure
from networks_common import accuracy, layers, log_scale, trials
from torch import Tensor, nn
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.data import load_mnist
from virtualdepth.maths import thin_svd

SIZES = (784, 128, 128, 10)
TRAINED, HELD_OUT, TESTED, BATCH, EPOCHS = 10_000, 5_000, 10_000, 100, 5
TRIALS, TUNED_ON, SEEDS = 8, 0, (1, 2, 3)
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
Make = Callable[[nn.Module, float, float], Any]


class Nuclear(torch.optim.AdamW):
    """AdamW without decay, and the proximal step of a nuclear-norm penalty on every matrix."""

    def __init__(self, model: nn.Module, lr: float, penalty: float) -> None:
        super().__init__(model.parameters(), lr, weight_decay=0.0)
        self.matrices, self.penalty = [layer.weight for layer in layers(model)], penalty

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for weight in self.matrices:
            u, sigma, vh = thin_svd(weight)
            threshold = self.param_groups[0]["lr"] * self.penalty
            weight.copy_((u * (sigma - threshold).clamp_min(0)) @ vh)


def end_to_end(depth: int) -> Make:
    def make(model: nn.Module, lr: float, decay: float) -> Any:
        groups = vd.param_groups(model, depth=depth)
        options: dict[str, Any] = {"step_scale": "unit", "precondition_frequency": 10}
        return vd.EndToEndSGD(groups, lr=lr, momentum=0.9, weight_decay=decay, **options)

    return make


def deep_adamw(depth: int) -> Make:
    def make(model: nn.Module, lr: float, decay: float) -> Any:
        optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)
        options: dict[str, Any] = {"on": "update", "step_scale": "unit"}
        return vd.with_depth(optimizer, depth, precondition_frequency=10, **options)

    return make


# ways of training, with the ranges of the rate and of the decay or penalty
WAYS: dict[str, tuple[Make, tuple[float, float], tuple[float, float]]] = {
    "SGD": (
        lambda model, lr, decay: torch.optim.SGD(
            model.parameters(), lr, momentum=0.9, weight_decay=decay
        ),
        (0.01, 0.3),
        (1e-5, 1e-2),
    ),
    "AdamW": (
        lambda model, lr, decay: torch.optim.AdamW(model.parameters(), lr, weight_decay=decay),
        (3e-4, 1e-2),
        (1e-3, 3.0),
    ),
    "AdamW, nuclear": (Nuclear, (3e-4, 1e-2), (1e-3, 3.0)),
    "factors": (
        lambda model, lr, decay: torch.optim.AdamW(model.parameters(), lr, weight_decay=decay),
        (3e-4, 1e-2),
        (1e-3, 3.0),
    ),
    "EndToEndSGD, depth 2": (end_to_end(2), (0.01, 1.0), (1e-5, 1e-2)),
    "EndToEndSGD, depth 3": (end_to_end(3), (0.01, 1.0), (1e-5, 1e-2)),
    "with_depth, depth 2": (deep_adamw(2), (3e-4, 3e-2), (1e-3, 3.0)),
    "with_depth, depth 3": (deep_adamw(3), (3e-4, 3e-2), (1e-3, 3.0)),
}


def network(way: str, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for n, m in pairwise(SIZES):
        pair = [nn.Linear(n, min(m, n), bias=False), nn.Linear(min(m, n), m)]
        modules += [*(pair if way == "factors" else [nn.Linear(n, m)]), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def merged(way: str, model: nn.Sequential) -> nn.Sequential:
    """Multiply pairs of layers out."""
    if way != "factors":
        return model
    plain = network("", 0)
    factors = layers(model)
    with torch.no_grad():
        for layer, first, last in zip(layers(plain), factors[::2], factors[1::2], strict=True):
            layer.weight.copy_(last.weight @ first.weight)
            layer.bias.copy_(last.bias)
    return plain


def trained(
    way: str, lr: float, penalty: float, seed: int, data: tuple[Tensor, Tensor], epochs: int
) -> nn.Sequential:
    images, labels = data
    model = network(way, seed)
    optimizer = WAYS[way][0](model, lr, penalty)
    steps = epochs * (len(labels) // BATCH)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            scheduler.step()
    return merged(way, model)


def weights_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.ndim > 1)


def thin(model: nn.Sequential, share: float, inputs: Iterable[Tensor] | None) -> nn.Module:
    """Truncate with the least tolerance at which no more than a share of the weights is kept."""
    if share == 1:
        return model
    allowed = share * weights_of(model)
    low, high = 0.0, 1.0 - 1e-9
    best = vd.factorize(model, tolerance=high, inputs=inputs)
    for _ in range(10):
        middle = (low + high) / 2
        found = vd.factorize(model, tolerance=middle, inputs=inputs)
        if weights_of(found) <= allowed:
            high, best = middle, found
        else:
            low = middle
    return best


def tuned(way: str, train: Any, held_out: Any, count: int, epochs: int, bar: Any) -> Row:
    """Draw trials log-uniformly, and return the best at 10 % of the weights."""
    _, rates, penalties = WAYS[way]
    found = []
    for first, second in trials(count):
        lr, penalty = log_scale(first, rates), log_scale(second, penalties)
        bar.set_description(f"{way}: trial")
        try:
            model = trained(way, lr, penalty, TUNED_ON, train, epochs)
            score = accuracy(thin(model, 0.1, [train[0][:1000]]), held_out)
        except (FloatingPointError, ValueError):  # it diverged
            score = 0.0
        found.append({"score": score, "lr": lr, "penalty": penalty})
        bar.update()
    return max(found, key=lambda trial: trial["score"])


def draw(rows: list[Row]) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    for way in WAYS:
        own = [row for row in rows if row["training"] == way and row["truncation"] == "whitened"]
        values = [[float(v) for v in str(row["accuracies"]).split()] for row in own]
        shares = [row["kept, %"] for row in own]
        style = "o-" if "depth" in way else "s--"
        ax.plot(shares, [statistics.fmean(each) for each in values], style, ms=4, label=way)
    ax.set(xscale="log", xlabel="weights kept, %", ylabel="test accuracy, % (mean of three seeds)")
    ax.set_xticks([5, 10, 25, 50, 100], ["5", "10", "25", "50", "100"])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", metavar="DIR", help="with MNIST's idx files")
    options = parse(parser, "rank_networks.json", "rank_networks.png")
    images, labels = load_mnist(options.data_dir)
    images = images.reshape(len(images), -1) + 0.5
    ends = (0, TRAINED, TRAINED + HELD_OUT, TRAINED + HELD_OUT + TESTED)
    train, held_out, test = ((images[a:b], labels[a:b]) for a, b in pairwise(ends))
    count, epochs, seeds = (1, 1, SEEDS[:1]) if options.quick else (TRIALS, EPOCHS, SEEDS)
    rows: list[Row] = []
    with tqdm(total=len(WAYS) * (count + len(seeds)), disable=None) as bar:
        for way in WAYS:
            best = tuned(way, train, held_out, count, epochs, bar)
            models = []
            for seed in seeds:
                bar.set_description(f"{way}: seed {seed}")
                models.append(trained(way, best["lr"], best["penalty"], seed, train, epochs))
                bar.update()
            for name, inputs in (("plain", None), ("whitened", [train[0][:1000]])):
                for share in SHARES:
                    found = [accuracy(thin(model, share, inputs), test) for model in models]
                    rows.append(
                        {
                            "training": way,
                            "truncation": name,
                            "kept, %": 100 * share,
                            "accuracies": " ".join(f"{each:.2f}" for each in found),
                            "lr": f"{best['lr']:.2g}",
                            "penalty": f"{best['penalty']:.2g}",
                        }
                    )
                    print(rows[-1], flush=True)
    save_figure(options.output, "rank_networks.png", draw(rows))
    report("rank_networks", options.output, rows)


if __name__ == "__main__":
    main()
