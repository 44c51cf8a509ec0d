"""Fine-tuning from few samples: depth on the change, beside full fine-tuning, LoRA and others.

A network 784-128-128-10, trained on 10,000 upright MNIST images, goes on to images turned by 45
degrees, of which it sees 16 to 1024: 200 steps, batches of at most 64. Each method has six trials
of a rate and of its own option for each number of samples, on one seed, chosen by the accuracy on
1,000 held-out turned images; it is then run on five other seeds. Reported are the accuracies on
2,000 turned and 2,000 upright test images, in per cent (median, least and largest of the seeds),
and the least rank that has 90 % of the squared change of the second matrix (128 x 128), median.

- full: AdamW on everything. probe: AdamW on the last layer.
- LoRA: W + B A of rank r on each layer, B = 0 at the start, AdamW; r in 1, 2, 4, 8, 16, 32.
- Deep LoRA: W + A_3 A_2 A_1 of the same ranks, A_3 = 0 at the start, AdamW (after 2406.04112).
- depth N: EndToEndSGD, origin="init", step_scale="unit", momentum 0.9, from a change of zero; the
  imbalance in 1e-3 to 1. random start: the same at depth 3 with origin_scale in place of it.
"""

import copy
import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from common import Row, arguments, parse, report
from networks_common import Data, accuracy, layers, log_scale, trials
from scipy.ndimage import rotate
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.data import load_mnist

COUNTS, STEPS, BATCH = (16, 64, 256, 1024), 200, 64
TRIALS, TUNED_ON, SEEDS = 6, 0, (1, 2, 3, 4, 5)
RANKS = (1, 2, 4, 8, 16, 32)


class Change(nn.Module):
    """W plus a product of thin matrices, the last of which begins at zero."""

    def __init__(self, weight: Tensor, rank: int, factors: int) -> None:
        super().__init__()
        m, n = weight.shape
        widths = [n, *[rank] * (factors - 1), m]
        self.factors = nn.ParameterList(
            torch.randn(after, before) / before**0.5 * (index < factors - 1)
            for index, (before, after) in enumerate(pairwise(widths))
        )

    def forward(self, weight: Tensor) -> Tensor:
        return weight + vd.end_to_end_product(list(self.factors))


def adapted(factors: int) -> Callable[[nn.Module, float, float], Any]:
    def make(model: nn.Module, lr: float, at: float) -> Any:
        model.requires_grad_(False)
        changes = []
        for layer in layers(model):
            rank = min(RANKS[int(at * len(RANKS))], *layer.weight.shape)
            changes.append(Change(layer.weight, rank, factors))
            parametrize.register_parametrization(layer, "weight", changes[-1])
        return torch.optim.AdamW(nn.ModuleList(changes).parameters(), lr, weight_decay=0.0)

    return make


def deep(depth: int, random: bool = False) -> Callable[[nn.Module, float, float], Any]:
    def make(model: nn.Module, lr: float, at: float) -> Any:
        own = 10 ** (-3 + 3 * at)
        options: dict[str, Any] = {"origin_scale": 0.1 * own} if random else {"imbalance": own}
        groups = [group | options for group in vd.param_groups(model, depth)]
        return vd.EndToEndSGD(groups, lr=lr, momentum=0.9, step_scale="unit", origin="init")

    return make


def full(model: nn.Module, lr: float, at: float) -> Any:
    return torch.optim.AdamW(model.parameters(), lr, weight_decay=0.1 * at)


def probe(model: nn.Module, lr: float, at: float) -> Any:
    return torch.optim.AdamW(layers(model)[-1].parameters(), lr, weight_decay=0.1 * at)


METHODS: dict[str, tuple[Callable[[nn.Module, float, float], Any], tuple[float, float]]] = {
    "full": (full, (1e-4, 1e-2)),
    "probe": (probe, (1e-4, 1e-2)),
    "LoRA": (adapted(2), (1e-4, 3e-2)),
    "Deep LoRA": (adapted(3), (1e-4, 3e-2)),
    "depth 2": (deep(2), (0.003, 1.0)),
    "depth 3": (deep(3), (0.003, 1.0)),
    "depth 3, random start": (deep(3, random=True), (0.003, 1.0)),
}


def steps(model: nn.Module, optimizer: Any, data: Data, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        batch = torch.randperm(len(data[1]), generator=generator)[:BATCH]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0][batch]), data[1][batch]).backward()
        optimizer.step()


def rank_of_change(before: Tensor, after: Tensor) -> int:
    squares = torch.linalg.svdvals((after - before).double()).square()
    return int((squares.cumsum(0) < 0.9 * squares.sum()).sum()) + 1 if squares.any() else 0


def fine_tuned(
    method: str, lr: float, at: float, base: nn.Module, data: Data, count: int, seed: int
) -> nn.Module:
    model = copy.deepcopy(base)
    torch.manual_seed(seed)
    order = torch.randperm(len(data[1]), generator=torch.Generator().manual_seed(seed))
    seen = order[:count]
    steps(model, METHODS[method][0](model, lr, at), (data[0][seen], data[1][seen]), STEPS, seed)
    return model


def tuned(method: str, base: nn.Module, data: Data, held_out: Data, count: int, tried: int) -> Row:
    found = []
    for first, at in trials(tried):
        lr = log_scale(first, METHODS[method][1])
        model = fine_tuned(method, lr, at, base, data, count, TUNED_ON)
        found.append({"score": accuracy(model, held_out), "lr": lr, "at": at})
    return max(found, key=lambda trial: trial["score"])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", metavar="DIR", help="with MNIST's idx files")
    options = parse(parser, "fine_tuning_rivals.json")
    images, labels = load_mnist(options.data_dir)
    images, labels = images[:15_000, 0] + 0.5, labels[:15_000]
    aside = torch.from_numpy(rotate(images.numpy(), 45, axes=(1, 2), reshape=False, order=1))
    images, aside = images.flatten(1), aside.flatten(1)
    cuts = {"train": (0, 10_000), "new": (10_000, 12_000), "held": (12_000, 13_000)}
    parts = {name: (aside[a:b], labels[a:b]) for name, (a, b) in cuts.items()}
    test_new, test_old = ((each[13_000:], labels[13_000:]) for each in (aside, images))
    torch.manual_seed(0)
    base = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    upright = images[:10_000], labels[:10_000]
    steps(
        base, torch.optim.Adam(base.parameters(), 1e-3), upright, 100 if options.quick else 2000, 0
    )
    before = layers(base)[1].weight.detach()
    print(f"before: {accuracy(base, test_new):.1f} turned, {accuracy(base, test_old):.1f} upright")
    counts, tried, seeds = (COUNTS[:1], 1, SEEDS[:1]) if options.quick else (COUNTS, TRIALS, SEEDS)
    rows: list[Row] = []
    with tqdm(total=len(counts) * len(METHODS), disable=None) as bar:
        for count in counts:
            for method in METHODS:
                bar.set_description(f"{method}, {count} samples")
                best = tuned(method, base, parts["new"], parts["held"], count, tried)
                models = [
                    fine_tuned(method, best["lr"], best["at"], base, parts["new"], count, seed)
                    for seed in seeds
                ]
                row: Row = {"samples": count, "method": method}
                for name, data in (("turned", test_new), ("upright", test_old)):
                    found = [accuracy(model, data) for model in models]
                    row[name] = (
                        f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
                    )
                ranks = [rank_of_change(before, layers(m)[1].weight.detach()) for m in models]
                row |= {"rank": statistics.median(ranks), "lr": f"{best['lr']:.2g}"}
                row["own option"] = f"{best['at']:.2f}"
                rows.append(row)
                print(row, flush=True)
                bar.update()
    report("fine_tuning_rivals", options.output, rows)


if __name__ == "__main__":
    main()
