"""Whatever keeps state goes on to the last bit, by every way to keep a state and bring it back."""

import copy
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.contract.tools import assert_bitwise, everything, loss_of, through_a_file
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

import virtualdepth as vd

Make = Callable[[nn.Module], Optimizer]
Resume = Callable[[nn.Module, Optimizer, Make, Path], tuple[nn.Module, Optimizer]]


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(2, 6, 2, bias=False), nn.Flatten(), nn.Linear(24, 20), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(20, 2, bias=False)).double()


def train(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for batch in steps:

        def closure(batch: int = batch) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)


# options of EndToEndSGD for all parameters in one group
ALIKE: dict[str, dict[str, Any]] = {
    "no state": {"weight_decay": 0.1},
    "tensor rate": {"lr": torch.tensor(0.05), "momentum": 0.9},
    "plain": {"depth": 1, "momentum": 0.9, "dampening": 0.3},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "unit": {"step_scale": "unit", "momentum": 0.9, "depth": float("inf")},
    "rms": {"step_scale": "rms"},
    "rms, momentum": {"step_scale": "rms", "momentum": 0.9, "depth": 1.5},
    "tracked": {"solver": "tracked"},
    "tracked, momentum": {"solver": "tracked", "momentum": 0.9, "step_scale": "unit"},
    "tracked, rms": {"solver": "tracked", "step_scale": "rms", "lr": 0.5},
    "layers": {"solver": "layers"},
    "layers, momentum": {"solver": "layers", "momentum": 0.9, "weight_decay": 0.01},
    "origin": {"origin": "init"},
    "origin, momentum": {"origin": "init", "momentum": 0.9, "step_scale": "unit"},
    "rows": {"structure": "rows", "momentum": 0.9, "step_scale": "unit"},
    "diagonal, rms": {"structure": "diagonal", "imbalance": 0.1, "step_scale": "rms"},
    "imbalance": {"imbalance": 0.1, "step_scale": "unit", "momentum": 0.9},
    "imbalance, layers": {"imbalance": 0.1, "solver": "layers"},
    "origin, imbalance": {"origin": "init", "imbalance": 1e-3, "step_scale": "unit"},
    "origin, circulant": {"origin": "init", "structure": "circulant", "momentum": 0.9},
    "kept basis": {"precondition_frequency": 3},
    "kept basis, unit": {"precondition_frequency": 4, "step_scale": "unit", "momentum": 0.9},
    "kept basis, circulant": {"precondition_frequency": 3, "structure": "circulant"},
    "kept basis, origin": {"precondition_frequency": 3, "origin": "init", "imbalance": 1e-3},
    "origin, tracked": {"origin": "init", "solver": "tracked", "step_scale": "rms"},
}
# options of the matrices alone, with the vectors in a plain group
BESIDE_PLAIN: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9},
    "rms": {"step_scale": "rms"},
    "auto": {"step_scale": "auto"},
    "tracked": {"solver": "tracked"},
    "layers": {"solver": "layers", "hidden_features": 21},
    "origin": {"origin": "init"},
}
# other optimizers, with the options of with_depth
GIVEN_DEPTH: dict[str, tuple[Callable[[Any], Optimizer], dict[str, Any]]] = {
    "SGD, momentum": (partial(torch.optim.SGD, lr=0.05, momentum=0.9), {"step_scale": "unit"}),
    "SGD, columns": (
        partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        {"structure": "columns", "imbalance": 0.1},
    ),
    "AdamW": (partial(torch.optim.AdamW, lr=0.01, amsgrad=True), {}),
    "AdamW, kept basis": (partial(torch.optim.AdamW, lr=0.01), {"precondition_frequency": 3}),
    "SGD, kept basis": (partial(torch.optim.SGD, lr=0.05), {"precondition_frequency": 3}),
}


def alike(options: dict[str, Any]) -> Make:
    return lambda model: vd.EndToEndSGD(
        model.named_parameters(), **{"lr": 0.05, "depth": 3, **copy.deepcopy(options)}
    )


def beside_plain(options: dict[str, Any]) -> Make:
    def make(model: nn.Module) -> Optimizer:
        deep, plain = (
            [p for p in model.parameters() if (p.ndim > 1) == is_deep] for is_deep in (True, False)
        )
        groups = [{"params": plain, "depth": 1}, {"params": deep, "depth": 3, **options}]
        return vd.EndToEndSGD(groups, lr=0.05)

    return make


def given_depth(base: Callable[[Any], Optimizer], options: dict[str, Any]) -> Make:
    return lambda model: vd.with_depth(
        base(model.parameters()), 2, model=model, exclude="4", **options
    )


MAKE: dict[str, Make] = {
    **{f"{name}, alike": alike(options) for name, options in ALIKE.items()},
    **{f"{name}, beside plain": beside_plain(options) for name, options in BESIDE_PLAIN.items()},
    **{
        f"{name}, on {on}": given_depth(base, {**options, "on": on})
        for name, (base, options) in GIVEN_DEPTH.items()
        for on in ("gradient", "update")
    },
    "SGD, rms": given_depth(
        partial(torch.optim.SGD, lr=0.05), {"step_scale": "rms", "on": "gradient"}
    ),
}


def by_file(
    model: nn.Module, optimizer: Optimizer, make: Make, folder: Path
) -> tuple[nn.Module, Optimizer]:
    other = network(seed=7)
    resumed = make(other)
    weights, state = through_a_file((model.state_dict(), optimizer.state_dict()))
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    return other, resumed


def by_copy(
    model: nn.Module, optimizer: Optimizer, make: Make, folder: Path, pickled: bool
) -> tuple[nn.Module, Optimizer]:
    both = (model, optimizer)
    copied: tuple[nn.Module, Optimizer]
    copied = pickle.loads(pickle.dumps(both)) if pickled else copy.deepcopy(both)
    return copied


def by_dcp(
    model: nn.Module,
    optimizer: Optimizer,
    make: Make,
    folder: Path,
    written: bool,
    options: StateDictOptions,
) -> tuple[nn.Module, Optimizer]:
    other = network(seed=7)
    resumed = make(other)

    def state_of(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
        return {
            "model": get_model_state_dict(model, options=options),
            "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
        }

    state = copy.deepcopy(state_of(model, optimizer))
    if written:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is .*uninitialized")
            dcp.save(state, storage_writer=FileSystemWriter(folder, sync_files=False))
            state = state_of(other, resumed)
            dcp.load(state, checkpoint_id=folder, no_dist=True)
    set_model_state_dict(other, state["model"], options=options)
    set_optimizer_state_dict(other, resumed, state["optimizer"], options=options)
    return other, resumed


RESUME: dict[str, Resume] = {
    "torch.save": by_file,
    "deepcopy": partial(by_copy, pickled=False),
    "pickle": partial(by_copy, pickled=True),
    "distributed": partial(by_dcp, written=True, options=StateDictOptions()),
    "flattened": partial(
        by_dcp,
        written=True,
        options=StateDictOptions(flatten_optimizer_state_dict=True),
    ),
    "full": partial(
        by_dcp,
        written=False,
        options=StateDictOptions(full_state_dict=True, cpu_offload=True),
    ),
}


@pytest.mark.parametrize("resume", RESUME.values(), ids=RESUME)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_goes_on_to_the_last_bit(make: Make, resume: Resume, tmp_path: Path) -> None:
    model = network()
    optimizer = make(model)
    train(model, optimizer, range(3))
    if resume is RESUME["full"] and not optimizer.state:
        pytest.skip("torch asks for a tensor in the state")
    if resume is RESUME["full"] and make is MAKE["auto, beside plain"]:
        pytest.skip("torch asks for lists of the length they have")
    other, resumed = resume(model, optimizer, make, tmp_path)
    assert_bitwise(everything(other, resumed), everything(model, optimizer))
    train(model, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    assert_bitwise(everything(other, resumed), everything(model, optimizer))
