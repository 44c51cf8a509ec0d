"""Checkpoints written before the package was rearranged load, and go on as they did then."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise
from tests.maths.matrices import gaussian
from tests.optim.checkpoints.recipes import (
    AFTER,
    BEFORE,
    FOLDER,
    RECIPES,
    REMOVED,
    Named,
    take_steps,
)
from torch import nn
from torch.optim import Optimizer
from torch.testing import assert_close

import virtualdepth as vd


def resumed(begin: Callable[[], Named], make: Callable[[Named], Optimizer], stored: Any) -> Named:
    named = begin()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(stored["weights"][name])
    optimizer = make(named)
    optimizer.load_state_dict(stored["optimizer"])
    take_steps(named, optimizer, range(BEFORE, BEFORE + AFTER))
    return named


@pytest.mark.parametrize("recipe", RECIPES)
def test_goes_on_as_then(recipe: str) -> None:
    stored = torch.load(FOLDER / f"{recipe}.pt", weights_only=True)
    named = resumed(*RECIPES[recipe], stored)
    # not bitwise: another processor's arithmetic rounds differently
    for name, expected in stored["after"].items():
        assert not torch.equal(expected, stored["weights"][name])
        assert_close(named[name].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("recipe", RECIPES)
def test_reads_every_key(recipe: str) -> None:
    """Nothing of the state is lost or made anew, and it keeps its names and order."""
    stored = torch.load(FOLDER / f"{recipe}.pt", weights_only=True)["optimizer"]
    begin, make = RECIPES[recipe]
    optimizer = make(begin())
    optimizer.load_state_dict(stored)
    state = optimizer.state_dict()
    keys = [list(each) for each in stored["state"].values()]
    assert [list(each) for each in state["state"].values()] == keys
    for group, expected in zip(state["param_groups"], stored["param_groups"], strict=True):
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize("recipe", REMOVED)
def test_a_removed_solver_goes_on_as_then_with_one_warning(recipe: str) -> None:
    stored = torch.load(FOLDER / f"{recipe}.pt", weights_only=True)
    assert stored["optimizer"]["param_groups"][0]["solver"] == recipe
    with pytest.warns(UserWarning, match=f"solver: '{recipe}' .* removed; 'auto' takes") as said:
        named = resumed(*REMOVED[recipe], stored)
    assert len(said) == 1
    assert said[0].filename == __file__
    for name, expected in stored["after"].items():
        assert not torch.equal(expected, stored["weights"][name])
        assert_close(named[name].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["EndToEndSGD", "with_depth"])
def test_a_removed_solver_in_a_checkpoint_or_pickle_of_several_groups(kind: str) -> None:
    params = [nn.Parameter(gaussian(3, 4, seed=seed)) for seed in range(3)]
    groups: list[Any] = [{"params": params[:1]}, {"params": params[1:]}]
    if kind == "EndToEndSGD":
        optimizer: Optimizer = vd.EndToEndSGD(groups, lr=0.1)
    else:
        optimizer = vd.with_depth(
            torch.optim.AdamW(groups, lr=0.1), 2, step_scale="raw", on="gradient"
        )
    checkpoint = optimizer.state_dict()
    for group in checkpoint["param_groups"]:
        group["solver"] = "polar"
    with pytest.warns(UserWarning, match="'polar'") as said:
        optimizer.load_state_dict(checkpoint)
    assert len(said) == 1
    with warnings.catch_warnings():  # what is loaded is as if it had never had the solver
        warnings.simplefilter("error")
        optimizer.load_state_dict(optimizer.state_dict())
    for group in [optimizer.defaults, *optimizer.param_groups]:
        group["solver"] = "polar"
    pickled = pickle.dumps(optimizer)
    with pytest.warns(UserWarning, match="'polar'") as said:
        copy = pickle.loads(pickled)
    assert len(said) == 1
    assert {group["solver"] for group in [copy.defaults, *copy.param_groups]} == {"auto"}
    assert_bitwise(copy.param_groups[1]["params"], params[1:])


def test_a_removed_solver_is_no_option() -> None:
    p = nn.Parameter(gaussian(3, 4))
    with pytest.raises(ValueError, match=r"^solver: expected one of \('auto', 'svd', .*'polar'"):
        vd.EndToEndSGD([p], depth=2, solver="polar")  # type: ignore[arg-type]
    optimizer = vd.EndToEndSGD([p], depth=2)
    with pytest.raises(ValueError, match="solver: expected one of"):
        optimizer.add_param_group({"params": [nn.Parameter(gaussian(2, 2))], "solver": "polar"})
    optimizer.param_groups[0]["solver"] = "polar"
    p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match="solver: expected one of"):
        optimizer.step()
