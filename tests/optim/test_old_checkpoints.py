"""Checkpoints written before the package was rearranged load, and go on as they did then."""

import pytest
import torch
from tests.optim.checkpoints.recipes import AFTER, BEFORE, FOLDER, RECIPES, take_steps
from torch.testing import assert_close


@pytest.mark.parametrize("recipe", RECIPES)
def test_goes_on_as_then(recipe: str) -> None:
    stored = torch.load(FOLDER / f"{recipe}.pt", weights_only=True)
    begin, make = RECIPES[recipe]
    named = begin()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(stored["weights"][name])
    optimizer = make(named)
    optimizer.load_state_dict(stored["optimizer"])
    take_steps(named, optimizer, range(BEFORE, BEFORE + AFTER))
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
