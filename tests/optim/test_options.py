"""What is refused when the optimizer is made or grows, by name and with what was expected."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor, small_network
from torch import nn

from virtualdepth import EndToEndSGD

INF, NAN = float("inf"), float("nan")

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(({"depth": value}, ValueError, "depth: expected") for value in (0.99, 0, -1, -INF, NAN)),
    *(({"depth": value}, TypeError, "depth: expected") for value in ("3", None, True, 2j, [2])),
    ({"depth": torch.tensor(2.0)}, TypeError, "depth: expected"),
    *(({"lr": value}, ValueError, "lr: expected") for value in (-0.1, NAN, INF)),
    ({"lr": torch.tensor(-0.1)}, ValueError, "lr: expected"),
    ({"lr": torch.tensor(NAN)}, ValueError, "lr: expected"),
    ({"lr": torch.tensor([0.1, 0.2])}, ValueError, "lr: expected"),
    *(({"lr": value}, TypeError, "lr: expected") for value in ("0.1", None)),
    *(({"momentum": value}, ValueError, "momentum: expected") for value in (-0.1, NAN, INF)),
    ({"momentum": "0.9"}, TypeError, "momentum: expected"),
    *(
        ({name: torch.ones(2)}, ValueError, f"{name}: expected a number or 1-element tensor")
        for name in ("momentum", "dampening", "weight_decay", "cap")
    ),
    *(
        ({name: value}, TypeError, f"{name}: expected True or False")
        for name in ("nesterov", "maximize")
        for value in ("no", None, 2)
    ),
    ({"weight_decay": -1e-9}, ValueError, "weight_decay: expected"),
    ({"weight_decay": NAN}, ValueError, "weight_decay: expected"),
    ({"weight_decay": None}, TypeError, "weight_decay: expected"),
    ({"dampening": NAN}, ValueError, "dampening: expected"),
    ({"dampening": "0"}, TypeError, "dampening: expected"),
    ({"nesterov": True}, ValueError, "nesterov: expected momentum > 0"),
    ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "nesterov: expected"),
    *(({"rtol": value}, ValueError, "rtol: expected") for value in (-1e-16, 1, 2.0, INF, NAN)),
    *(({"rtol": value}, TypeError, "rtol: expected") for value in ("1e-9", True)),
    *(
        ({"step_scale": value}, ValueError, "step_scale: expected one of")
        for value in ("AUTO", "RAW", None, 1)
    ),
    *(
        ({"solver": value}, ValueError, "solver: expected one of")
        for value in ("Tracked", "eigh", "SVD", None)
    ),
    *(({"origin": value}, ValueError, "origin: expected one of") for value in ("start", 0, False)),
]
UNKNOWN = [
    {key: value}
    for key, value in (
        ("foreach", True),
        ("foreach", None),
        ("fused", False),
        ("differentiable", False),
        ("capturable", True),
        ("betas", (0.9, 0.999)),
        ("Depth", 2),
    )
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=str)
def test_a_value_that_it_cannot_have(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}") as caught:
        EndToEndSGD(small_network().parameters(), **options)
    assert "but got" in str(caught.value)
    refused_as_a_group(options, error, message)


@pytest.mark.parametrize("options", UNKNOWN, ids=str)
def test_an_option_that_it_does_not_have(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        EndToEndSGD(small_network().parameters(), **options)


@pytest.mark.parametrize("key", ["Depth", "momentun", "weigth_decay", "step_scales", "rtoll"])
def test_a_misspelt_key_of_a_group(key: str) -> None:
    refused_as_a_group({key: 1}, TypeError, f"{key}: expected an option, .* is almost '")


def refused_as_a_group(options: dict[str, Any], error: type[Exception], message: str) -> None:
    model = small_network()
    optimizer = EndToEndSGD(model.parameters(), lr=0.1)
    before, defaults = copy_of(optimizer.state_dict()), dict(optimizer.defaults)
    with pytest.raises(error, match=message.replace("[", r"\[").replace("]", r"\]")):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], **options})
    assert_bitwise(optimizer.state_dict(), before)
    assert optimizer.defaults == defaults


@pytest.mark.parametrize("layout", ["complex", "sparse", "sparse gradient"])
@pytest.mark.parametrize("named", [False, True])
def test_a_matrix_that_depth_cannot_act_on(layout: str, named: bool) -> None:
    good = nn.Parameter(random_tensor((2, 2), 0))
    bad = nn.Parameter(random_tensor((3, 2), 1, torch.complex128 if layout == "complex" else None))
    if layout == "sparse":
        bad = nn.Parameter(torch.eye(3).to_sparse())
    if layout == "sparse gradient":
        bad.grad = torch.eye(3, 2, dtype=bad.dtype).to_sparse()
    group = {"params": [("bad", bad)] if named else [bad]}
    optimizer = EndToEndSGD([("good", good)] if named else [good], lr=0.1, momentum=0.9, depth=2)
    before = copy_of(optimizer.state_dict())
    name = "bad" if named else f"parameter 0 of group 1, shape {tuple(bad.shape)}"
    with pytest.raises(TypeError, match=f"^{re.escape(name)}: expected a dense real.*depth=1"):
        optimizer.add_param_group(group)
    assert_bitwise(optimizer.state_dict(), before)
    optimizer.add_param_group({**group, "depth": 1})
    assert len(optimizer.param_groups) == 2


def test_what_depth_does_not_act_on_may_be_complex() -> None:
    p = nn.Parameter(random_tensor((3,), 0, torch.complex128))
    p.grad = torch.ones_like(p)
    EndToEndSGD([p], lr=0.5, depth=3).step()
    torch.testing.assert_close(p.detach(), random_tensor((3,), 0, torch.complex128) - 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 1},
        {"depth": INF},
        {"depth": 10**6},
        {"lr": 0},
        {"lr": torch.tensor([0.1])},
        {"momentum": 1, "dampening": -0.5},
        {"rtol": 0},
        {"rtol": 0.999},
        {"solver": "svd"},
        {"solver": "auto"},
        {"step_scale": "raw"},
        {"origin": None},
    ],
    ids=str,
)
def test_a_value_that_it_can_have(options: dict[str, Any]) -> None:
    optimizer = EndToEndSGD(small_network().parameters(), **options)
    for key, value in options.items():
        assert optimizer.param_groups[0][key] is value


def test_keys_that_schedulers_leave_in_a_group_are_taken() -> None:
    """So that groups can be handed to a new optimizer."""
    first = EndToEndSGD([{"params": small_network().parameters(), "name": "all"}], lr=0.1)
    torch.optim.lr_scheduler.StepLR(first, 1)
    second = EndToEndSGD(first.param_groups)
    assert second.param_groups[0]["initial_lr"] == 0.1
    assert second.param_groups[0]["name"] == "all"


@pytest.mark.parametrize("scale", ["raw", "unit", "auto"])
@pytest.mark.parametrize("of", [Fraction, np.float64, np.float32])
def test_numbers_of_other_libraries_are_the_numbers(of: Any, scale: str) -> None:
    """When an optimizer is made, and when an option is changed later."""
    given = {"lr": 0.25, "depth": 2.5, "cap": 0.125, "rtol": 2.0**-20, "imbalance": 0.5}
    if scale != "auto":
        given |= {"momentum": 0.5, "weight_decay": 0.0625, "dampening": 0.25}
    moved = []
    for kind in (float, of):
        p = nn.Parameter(random_tensor((3, 4), 1))
        optimizer = EndToEndSGD(
            [p], step_scale=scale, **{name: kind(value) for name, value in given.items()}
        )
        for number in range(3):
            p.grad = random_tensor((3, 4), 2 + number)
            optimizer.step()
            optimizer.param_groups[0].update(imbalance=kind(0.75), lr=kind(0.125))
        moved.append(p.detach())
    assert_bitwise(*moved)
