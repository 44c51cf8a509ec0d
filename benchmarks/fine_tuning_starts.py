"""How does a change since an origin start best: at random, or at zero with unequal layers?

Depth 3 on the change W - W(0) (origin="init", step_scale="unit"), from a random start of
origin_scale 1e-3, or from exactly zero with an imbalance. Three tasks, three seeds each:

- example: that of examples/fine_tuning.py, a change of rank 2 of a 32 x 32 layer, 35 % seen.
- completion: a change of rank 2 of a 40 x 40 layer with entries an eighth as large, 35 % seen.
- digits: a network trained on the digits goes on to digits turned by 45 degrees, of which it sees
  100; its three matrices move.

error: of the change, relative; for the digits the share of wrong answers among those not seen.
effective rank: of the change; for the digits of that of the second matrix (64 x 64).
Rates are chosen per task and start by the error of another seed.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from common import Row, arguments, parse, report
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from torch import Tensor, nn

from virtualdepth import EndToEndSGD, effective_rank, param_groups

SEEDS, TUNED_ON = (0, 1, 2), 3
RATES = (0.3, 1.0, 3.0)
STARTS: dict[str, dict[str, Any]] = {
    "random, 1e-3": {},
    "imbalance 3e-2": {"imbalance": 3e-2},
    "imbalance 1e-2": {"imbalance": 1e-2},
    "imbalance 1e-3": {"imbalance": 1e-3},
}


def optimizer_for(model: nn.Module, lr: float, start: dict[str, Any]) -> EndToEndSGD:
    start = dict(start)
    own = {key: start.pop(key) for key in ("origin_scale",) if key in start}
    groups = [{**group, **own} for group in param_groups(model, 3)]
    return EndToEndSGD(groups, lr=lr, step_scale="unit", origin="init", **start)


def entries(
    size: int, scale: float, steps: int, lr: float, start: dict[str, Any], seed: int
) -> Row:
    """A change of rank 2, of which 35 % of the entries are seen."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(size, size, bias=False)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
    pretrained = layer.weight.detach().clone()
    left, right = torch.randn(2, size, 2, generator=generator)
    change = scale * left @ right.T
    seen = torch.rand(size, size, generator=generator) < 0.35
    optimizer = optimizer_for(layer, lr, start)
    for _ in range(steps):
        optimizer.zero_grad()
        ((layer.weight - pretrained - change)[seen].square().sum() / 2).backward()
        optimizer.step()
    found = layer.weight.detach() - pretrained
    error = float((found - change).norm() / change.norm())
    return {"error": error, "effective rank": float(effective_rank(found))}


def pretrained_network(seed: int, images: Tensor, labels: Tensor) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


_networks: dict[int, nn.Sequential] = {}


def digits(steps: int, lr: float, start: dict[str, Any], seed: int) -> Row:
    """Digits turned by 45 degrees, 100 of them seen."""
    data = load_digits()
    labels = torch.tensor(data.target)
    upright = torch.tensor(data.data, dtype=torch.float32) / 16
    images = rotate(data.images, 45, axes=(1, 2), reshape=False, order=1)
    turned = torch.tensor(images.reshape(len(images), -1), dtype=torch.float32) / 16
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    seen, unseen = order[:100], order[100:]
    if seed not in _networks:
        _networks[seed] = pretrained_network(seed, upright, labels)
    model = copy.deepcopy(_networks[seed])
    before = model[2].weight.detach().clone()
    optimizer = optimizer_for(model, lr, start)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(turned[seen]), labels[seen]).backward()
        optimizer.step()
    with torch.no_grad():
        wrong = model(turned[unseen]).argmax(1) != labels[unseen]
    change = model[2].weight.detach() - before
    rank = float(effective_rank(change)) if change.any() else math.nan
    return {"error": float(wrong.float().mean()), "effective rank": rank}


Task = Callable[[int, float, dict[str, Any], int], Row]
TASKS: dict[str, tuple[Task, int]] = {
    "example": (lambda steps, *rest: entries(32, 1.0, steps, *rest), 2000),
    "completion": (lambda steps, *rest: entries(40, 0.125, steps, *rest), 2000),
    "digits": (digits, 800),
}


def best_rate(task: Task, steps: int, start: dict[str, Any]) -> float:
    return min(RATES, key=lambda lr: task(steps, lr, start, TUNED_ON)["error"])


def main() -> None:
    options = parse(arguments(__doc__), "fine_tuning_starts.json")
    rows: list[Row] = []
    for name, (task, steps) in TASKS.items():
        steps = 20 if options.quick else steps
        for label, start in STARTS.items():
            lr = RATES[0] if options.quick else best_rate(task, steps, start)
            found = [task(steps, lr, start, seed) for seed in SEEDS]
            row: Row = {"task": name, "start": label, "lr": lr}
            for key in ("error", "effective rank"):
                row[key] = " ".join(f"{each[key]:.3g}" for each in found)
            rows.append(row)
            print(row, flush=True)
    report("fine_tuning_starts", options.output, rows)


if __name__ == "__main__":
    main()
