"""Runs whose middle is stored: `python -m tests.optim.checkpoints.recipes` writes them beside this.

The files were written before the package was rearranged; later code has to read them and go on.
What came after in "adamw_on_update" was written anew when decay came to act on W itself.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.contract.tools import copy_of
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.optim import Optimizer

import virtualdepth as vd

FOLDER = Path(__file__).parent
BEFORE, AFTER = 4, 5  # steps

Named = dict[str, nn.Parameter]


def start(shapes: dict[str, tuple[int, ...]]) -> Named:
    return {name: nn.Parameter(0.5 * gaussian(*shape)) for name, shape in shapes.items()}


def two_matrices() -> Named:
    return start({"tall": (4, 3), "wide": (3, 5)})


def with_bias() -> Named:
    return start({"weight": (4, 3), "bias": (4,)})


def end_to_end(**options: Any) -> Callable[[Named], Optimizer]:
    return lambda named: vd.EndToEndSGD(named.items(), **{"lr": 0.05, "depth": 3, **options})


def adamw(on: str) -> Callable[[Named], Optimizer]:
    def make(named: Named) -> Optimizer:
        return vd.with_depth(torch.optim.AdamW(named.items(), lr=0.02), 3, on=on, step_scale="raw")

    return make


class Model(nn.Module):
    """A weight of each kind that is several matrices, or one of another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 2, groups=2)
        self.transposed = nn.ConvTranspose1d(2, 3, 2)
        self.attention = nn.MultiheadAttention(2, 1)
        for name, parameter in self.named_parameters():
            parameter.data = 0.5 * gaussian(*parameter.shape, seed=len(name))


def of_a_model(named: Named) -> Optimizer:
    model = Model()
    for name, parameter in named.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, parameter)
    return vd.EndToEndSGD(vd.param_groups(model, 3), lr=0.05, momentum=0.9)


RECIPES: dict[str, tuple[Callable[[], Named], Callable[[Named], Optimizer]]] = {
    "svd": (with_bias, end_to_end(momentum=0.9, dampening=0.1, weight_decay=0.01)),
    "unit": (with_bias, end_to_end(step_scale="unit", momentum=0.9, nesterov=True)),
    "rms": (with_bias, end_to_end(step_scale="rms", depth=1.5)),
    "auto": (two_matrices, end_to_end(step_scale="auto")),
    "tracked": (two_matrices, end_to_end(solver="tracked", lr=0.01, momentum=0.9)),
    "layers": (with_bias, end_to_end(solver="layers", momentum=0.9, weight_decay=0.01)),
    "origin": (with_bias, end_to_end(origin="init", step_scale="unit", momentum=0.9)),
    "adamw_on_gradient": (with_bias, adamw("gradient")),
    "adamw_on_update": (with_bias, adamw("update")),
    "model": (lambda: dict(Model().named_parameters()), of_a_model),
}


# stored with a solver that is no longer there, and what goes on from it
REMOVED: dict[str, tuple[Callable[[], Named], Callable[[Named], Optimizer]]] = {
    "polar": (with_bias, end_to_end(depth=2, momentum=0.9)),
}


def take_steps(named: Named, optimizer: Optimizer, numbers: range) -> None:
    """Towards fixed targets; gradients of a whole batch for "auto", noisy ones for the others."""
    noise = 0.0 if optimizer.param_groups[0].get("step_scale") == "auto" else 0.1
    for number in numbers:
        for name, parameter in named.items():
            shape, seed = parameter.shape, 100 + len(name)
            target = gaussian(*shape, seed=seed) + noise * gaussian(*shape, seed=seed + number + 1)
            parameter.grad = parameter.detach() - target
        optimizer.step()


def weights(named: Named) -> dict[str, Tensor]:
    return copy_of({name: parameter.detach() for name, parameter in named.items()})


def write(recipe: str) -> None:
    begin, make = RECIPES[recipe]
    named = begin()
    optimizer = make(named)
    take_steps(named, optimizer, range(BEFORE))
    stored = {"weights": weights(named), "optimizer": copy_of(optimizer.state_dict())}
    take_steps(named, optimizer, range(BEFORE, BEFORE + AFTER))
    torch.save({**stored, "after": weights(named)}, FOLDER / f"{recipe}.pt")


if __name__ == "__main__":
    for recipe in RECIPES:
        write(recipe)
