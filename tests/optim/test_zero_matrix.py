"""A matrix of zeros at depth > 1 would never move: said once, by name, with what to do."""

import warnings
from inspect import currentframe
from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import nn

from virtualdepth import EndToEndSGD, init, with_depth

ADVICE = r"all weights are zero.*never move.*imbalance.*balanced_.*depth=1"


def step(optimizer: EndToEndSGD, seed: int = 0) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = random_tensor(tuple(p.shape), seed, p.dtype)
    optimizer.step()


def silently_step(optimizer: EndToEndSGD, seed: int = 0) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(optimizer, seed)


@pytest.mark.parametrize("depth", [1.5, 2, 3, float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 2), (1, 4), (4, 1), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_one_warning(depth: float, dtype: torch.dtype, shape: Any, zero: float) -> None:
    p = nn.Parameter(torch.full(shape, zero, dtype=dtype))
    optimizer = EndToEndSGD([("layer.weight", p)], lr=0.1, depth=depth)
    with pytest.warns(UserWarning, match=f"^layer.weight: {ADVICE}") as caught:
        step(optimizer)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line that called step(), not one of ours
    assert not p.any()
    for seed in range(3):
        silently_step(optimizer, seed)
    assert not p.any()


def test_it_points_at_the_call_of_step_through_a_scheduler() -> None:
    p = nn.Parameter(torch.zeros(3, 2))
    optimizer = EndToEndSGD([p], lr=0.1, depth=2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # it wraps step()
    p.grad = torch.ones(3, 2)
    line = currentframe().f_lineno + 2
    with pytest.warns(UserWarning, match=ADVICE) as caught:
        optimizer.step()
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    scheduler.step()


def test_one_for_each_of_them() -> None:
    params = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.eye(2)), torch.zeros(2, 3)]
    optimizer = EndToEndSGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1)
    with pytest.warns(UserWarning, match="all weights are zero") as caught:
        step(optimizer)
    assert [str(warning.message).split(": ")[0] for warning in caught] == [
        "parameter 0 of group 0, shape (3, 2)",
        "parameter 0 of group 1, shape (2, 3)",
    ]


def test_none_where_it_can_move() -> None:
    """At depth 1, for a bias, for an empty matrix, or where there is no gradient."""
    for shape, depth in (((3, 2), 1), ((3,), 3), ((), 3), ((0, 3), 3)):
        p = nn.Parameter(torch.zeros(shape))
        silently_step(EndToEndSGD([p], lr=0.1, depth=depth))
        assert p.numel() == 0 or p.any()
    without_gradient = EndToEndSGD([nn.Parameter(torch.zeros(3, 2))], lr=0.1, depth=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without_gradient.step()


def test_none_for_a_matrix_that_is_nearly_zero() -> None:
    p = nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    p.data[0, 0] = 5e-324
    silently_step(EndToEndSGD([p], lr=0.1, depth=2))


def test_one_when_the_depth_is_raised() -> None:
    p = nn.Parameter(torch.zeros(3, 2))
    optimizer = EndToEndSGD([p], lr=0.0, depth=1)
    silently_step(optimizer)
    optimizer.param_groups[0]["depth"] = 2
    with pytest.warns(UserWarning, match=ADVICE):
        step(optimizer)


def test_what_it_advises_helps() -> None:
    layer = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(layer.weight)
    init.balanced_(layer, 1e-3, generator=torch.Generator().manual_seed(0))
    before = layer.weight.detach().clone()
    silently_step(EndToEndSGD(layer.parameters(), lr=0.1, depth=3))
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize("structure", ["matrix", "rows", "columns", "diagonal", "circulant"])
@pytest.mark.parametrize("step_scale", ["raw", "unit", "rms"])
def test_none_with_unequal_layers(structure: Any, step_scale: Any) -> None:
    p = nn.Parameter(torch.zeros(3, 2))
    silently_step(EndToEndSGD([p], 0.1, step_scale=step_scale, structure=structure, imbalance=1e-3))
    assert p.all()


@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("structure", ["matrix", "rows", "columns", "diagonal", "circulant"])
def test_unequal_layers_move_zeros_of_other_optimizers_without_a_warning(
    on: Any, structure: Any
) -> None:
    p = nn.Parameter(torch.zeros(3, 4))
    optimizer = with_depth(
        torch.optim.Adam([p], lr=0.1),
        2,
        on=on,
        structure=structure,
        imbalance=0.1,
        step_scale="raw",
    )
    p.grad = random_tensor((3, 4), 1, p.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert p.detach().count_nonzero() == 12
