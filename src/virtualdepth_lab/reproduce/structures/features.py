"""A ReLU network on a hundred features of which five matter: which columns of W_1 stay zero?"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from virtualdepth.optim import EndToEndSGD
from virtualdepth_lab.reproduce.result import Progress, Record

FEATURES, RELEVANT, HIDDEN, NOISE = 100, 5, 64, 0.1
TRAINING, VALIDATION, TEST = 200, 100, 2000
EVERY, PATIENCE = 20, 600
# four trials each; the one of least validation error counts
METHODS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "Adam": [{"lr": lr} for lr in (3e-4, 1e-3, 3e-3, 1e-2)],
    "SGD": [{"lr": lr, "depth": 1} for lr in (1e-3, 5e-3, 0.02, 0.1)],
    "Adam, group penalty": [{"lr": 3e-3, "penalty": size} for size in (0.1, 0.3, 1.0, 3.0)],
    "columns, depth 2": [
        {"lr": 0.02, "depth": 2, "imbalance": size} for size in (1e-4, 1e-3, 1e-2, 0.1)
    ],
    "columns, depth 3": [
        {"lr": 0.02, "depth": 3, "imbalance": size} for size in (1e-3, 1e-2, 3e-2, 0.1)
    ],
}


def draw_data(seed: int) -> tuple[Tensor, Tensor]:
    """Draw inputs and standardised, noisy targets of five features, training samples first."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(TRAINING + VALIDATION + TEST, FEATURES, generator=generator)
    first, second, third, fourth, fifth = inputs.T[:RELEVANT]
    values = torch.sin(2 * first) + second * third + 2 * torch.relu(fourth) - fifth.abs()
    values = (values - values.mean()) / values.std()
    return inputs, values + NOISE * torch.randn(len(values), generator=generator)


def feature_rows(
    method: str, seeds: Sequence[int], steps: int, progress: Progress
) -> Iterator[Record]:
    """Yield a row for each seed: the best trial of a method by validation error."""
    trials = METHODS[method]
    for seed in seeds:
        progress(f"features, {method}, seed {seed}")
        tick = time.process_time()
        tried = [train(seed, steps, **trial) for trial in trials]
        best = min(range(len(tried)), key=lambda index: tried[index]["validation_mse"])
        yield {
            "part": "features",
            "method": method,
            "seed": seed,
            **tried[best],
            "trial": best + 1,
            "trials": len(trials),
            "cpu_s": time.process_time() - tick,
        }


def train(
    seed: int,
    steps: int,
    lr: float,
    depth: float | None = None,
    imbalance: float = 0.0,
    penalty: float = 0.0,
) -> Record:
    """Train, and return errors and feature share at the step of least validation error.

    Without a depth by Adam, and with a penalty by its proximal map on the columns of W_1. With
    depth >= 2 W_1 starts at zero.
    """
    inputs, targets = draw_data(seed)
    parts = torch.split(inputs, [TRAINING, VALIDATION, TEST])
    wanted = torch.split(targets, [TRAINING, VALIDATION, TEST])
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    first = uniform(HIDDEN, FEATURES) / FEATURES**0.5
    if imbalance:
        first.zero_()
    rest = [uniform(HIDDEN), uniform(HIDDEN) / HIDDEN**0.5, torch.zeros(())]
    first, *rest = (torch.nn.Parameter(each) for each in (first, *rest))
    optimizer: torch.optim.Optimizer
    if depth is None:
        optimizer = torch.optim.Adam([first, *rest], lr=lr)
    else:
        group = {"params": [first], "depth": depth, "imbalance": imbalance, "structure": "columns"}
        optimizer = EndToEndSGD([group, {"params": rest, "depth": 1}], lr=lr, momentum=0.9)

    def error(part: int) -> Tensor:
        hidden = torch.relu(parts[part] @ first.T + rest[0])
        residual: Tensor = hidden @ rest[1] + rest[2] - wanted[part]
        return residual.square().mean()

    def step() -> None:
        optimizer.zero_grad()
        error(0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if penalty:
            with torch.no_grad():
                norms = first.norm(dim=0)
                first.mul_((1 - lr * penalty / norms.clamp_min(1e-12)).clamp_min(0))

    return _least(error, step, first, steps)


def _least(
    error: Callable[[int], Tensor],
    step_once: Callable[[], None],
    first: Tensor,
    steps: int,
) -> Record:
    """Take steps until none has improved the validation error for long."""
    best: Record = {"validation_mse": float("inf"), "step": 0}
    for step in range(steps + 1):
        if step % EVERY == 0:
            with torch.no_grad():
                validation = float(error(1))
                if validation < best["validation_mse"]:
                    energy = first.square().sum(0)
                    best = {
                        "validation_mse": validation,
                        "test_mse": float(error(2)),
                        "step": step,
                        "share_of_relevant": float(
                            energy[:RELEVANT].sum() / energy.sum().clamp_min(1e-30)
                        ),
                    }
            if step - best["step"] > PATIENCE:
                break
        step_once()
    return best
