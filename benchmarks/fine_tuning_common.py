"""What the studies of fine-tuning share: the methods, their trials, and the table.

- full: AdamW on everything. probe: AdamW on the last layer.
- LoRA: W + B A of rank r on each layer, B = 0 at the start, AdamW; r in 1, 2, 4, 8, 16, 32.
- Deep LoRA: W + A_3 A_2 A_1 of the same ranks, A_3 = 0 at the start, AdamW (after 2406.04112).
- depth N: EndToEndSGD, origin="init", step_scale="unit", momentum 0.9, from a change of zero; the
  imbalance in 1e-3 to 1. random start: the same at depth 3 with origin_scale in place of it.
"""

import argparse
import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import torch
from common import DOCS, Row, into_docs, report
from networks_common import Data, accuracy, layers, log_scale, trials
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.runs import markdown_table

TUNED_ON = 0
RANKS = (1, 2, 4, 8, 16, 32)
Make = Callable[[nn.Module, float, float], Any]
Method = tuple[Make, tuple[float, float]]  # and the range of the rate


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


def adapted(factors: int) -> Make:
    def make(model: nn.Module, lr: float, at: float) -> Any:
        chosen = layers(model)
        model.requires_grad_(False)
        changes = []
        for layer in chosen:
            rank = min(RANKS[int(at * len(RANKS))], *layer.weight.shape)
            changes.append(Change(layer.weight, rank, factors))
            parametrize.register_parametrization(layer, "weight", changes[-1])
        return torch.optim.AdamW(nn.ModuleList(changes).parameters(), lr, weight_decay=0.0)

    return make


def deep(depth: int, random: bool = False, frequency: int = 1) -> Make:
    def make(model: nn.Module, lr: float, at: float) -> Any:
        own = 10 ** (-3 + 3 * at)
        options: dict[str, Any] = {"origin_scale": 0.1 * own} if random else {"imbalance": own}
        options["precondition_frequency"] = frequency
        groups = [group | options for group in vd.param_groups(model, depth)]
        return vd.EndToEndSGD(groups, lr=lr, momentum=0.9, step_scale="unit", origin="init")

    return make


def full(model: nn.Module, lr: float, at: float) -> Any:
    return torch.optim.AdamW(model.parameters(), lr, weight_decay=0.1 * at)


def probe(model: nn.Module, lr: float, at: float) -> Any:
    return torch.optim.AdamW(layers(model)[-1].parameters(), lr, weight_decay=0.1 * at)


METHODS: dict[str, Method] = {
    "full": (full, (1e-4, 1e-2)),
    "probe": (probe, (1e-4, 1e-2)),
    "LoRA": (adapted(2), (1e-4, 3e-2)),
    "Deep LoRA": (adapted(3), (1e-4, 3e-2)),
    "depth 2": (deep(2), (0.003, 1.0)),
    "depth 3": (deep(3), (0.003, 1.0)),
    "depth 3, random start": (deep(3, random=True), (0.003, 1.0)),
}


@dataclass(frozen=True)
class Study:
    """A trained model, and samples of a new task.

    Attributes:
        base: the model before.
        data: samples of the new task, of which few are seen.
        held_out: those that choose a trial.
        scores: named functions of a fine-tuned model.
        matrix: finds the weight whose change is looked at.
        counts: how many samples are seen.
        steps, batch: of each run.
        trials, seeds: of each method, for each count.
    """

    base: nn.Module
    data: Data
    held_out: Data
    scores: Mapping[str, Callable[[nn.Module], float]]
    matrix: Callable[[nn.Module], Tensor]
    counts: Sequence[int] = (16, 64, 256, 1024)
    steps: int = 200
    batch: int = 64
    trials: int = 6
    seeds: Sequence[int] = (1, 2, 3, 4, 5)


def train(model: nn.Module, optimizer: Any, data: Data, count: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        chosen = torch.randperm(len(data[1]), generator=generator)[:batch]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0][chosen]), data[1][chosen]).backward()
        optimizer.step()


def rank_of_change(before: Tensor, after: Tensor) -> int:
    """Find the least rank that has 90 % of the squared change."""
    squares = torch.linalg.svdvals((after - before).double()).square()
    return int((squares.cumsum(0) < 0.9 * squares.sum()).sum()) + 1 if squares.any() else 0


def fine_tuned(study: Study, make: Make, lr: float, at: float, count: int, seed: int) -> nn.Module:
    model = copy.deepcopy(study.base)
    torch.manual_seed(seed)
    inputs, labels = study.data
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    seen = order[:count]
    optimizer = make(model, lr, at)
    train(model, optimizer, (inputs[seen], labels[seen]), study.steps, study.batch, seed)
    return model


def tuned(study: Study, method: Method, count: int) -> Row:
    make, rates = method
    found = []
    for first, at in trials(study.trials):
        lr = log_scale(first, rates)
        model = fine_tuned(study, make, lr, at, count, TUNED_ON)
        found.append({"score": accuracy(model, study.held_out), "lr": lr, "at": at})
    return max(found, key=lambda trial: trial["score"])


def compare(study: Study, methods: Mapping[str, Method]) -> list[Row]:
    """Tune each method for each count of samples, run it on the seeds, and print what it scores."""
    before = study.matrix(study.base).detach()
    rows: list[Row] = []
    cells = list(product(study.counts, methods.items()))
    for count, (name, method) in (bar := tqdm(cells, disable=None)):
        bar.set_description(f"{name}, {count} samples")
        best = tuned(study, method, count)
        lr, at = best["lr"], best["at"]
        models = [fine_tuned(study, method[0], lr, at, count, seed) for seed in study.seeds]
        row: Row = {"samples": count, "method": name}
        for task, score in study.scores.items():
            found = [score(model) for model in models]
            row[task] = f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"
        ranks = [rank_of_change(before, study.matrix(model).detach()) for model in models]
        row |= {"rank": statistics.median(ranks), "lr": f"{lr:.2g}", "own option": f"{at:.2f}"}
        rows.append(row)
        print(row, flush=True)
    return rows


def both(study: Study, rows: list[Row]) -> list[Row]:
    """Lay the medians out, of the new and the old task, by method and number of samples."""
    before = " / ".join(f"{score(study.base):.1f}" for score in study.scores.values())
    count = max(study.counts)
    laid = [{"method": "before", **dict.fromkeys(map(str, study.counts), before), "rank": ""}]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["samples"]: row for row in rows if row["method"] == method}
        cells = {
            str(samples): " / ".join(row[task].split()[0] for task in study.scores)
            for samples, row in own.items()
        }
        laid.append({"method": method, **cells, "rank": f"{own[count]['rank']:g}"})
    return laid


def report_both(name: str, options: argparse.Namespace, study: Study, rows: list[Row]) -> None:
    report(name, options.output, rows)
    table = markdown_table(both(study, rows))
    print(table)
    if options.docs:  # which are under version control
        into_docs({name: table}, DOCS / "rank.md")
