"""A checkpoint is checked as it is loaded, and loads as a whole or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor, through_a_file
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from virtualdepth import EndToEndSGD, with_depth

NAN = float("nan")
SHAPES = {"a": (3, 4), "b": (4, 3)}

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda groups: EndToEndSGD(groups, lr=0.01, depth=3, momentum=0.9),
    "origin": lambda groups: EndToEndSGD(groups, lr=0.01, depth=3, origin="init"),
    "tracked": lambda groups: EndToEndSGD(groups, lr=0.01, depth=3, solver="tracked"),
    "layers": lambda groups: EndToEndSGD(groups, lr=0.01, depth=3, solver="layers", momentum=0.9),
    "auto": lambda groups: EndToEndSGD(groups, depth=3, step_scale="auto"),
    "rms": lambda groups: EndToEndSGD(groups, lr=0.01, depth=3, step_scale="rms"),
    "SGD with depth": lambda groups: with_depth(
        SGD(groups, lr=0.01, momentum=0.9), 3, step_scale="raw", on="gradient"
    ),
    "Adam with depth": lambda groups: with_depth(
        Adam(groups, lr=0.01), 3, on="update", step_scale="raw"
    ),
}
# the tensors of a state that are checked
TENSORS = {
    "momentum": ["momentum_buffer"],
    "origin": ["origin"],
    "tracked": ["tracked_left", "tracked_rows", "tracked_step", "tracked_image"],
    "layers": ["layers_factor_1", "layers_factor_3", "layers_momentum_2", "layers_probe"],
    "auto": ["auto_weight_0", "auto_grad_4"],
    "SGD with depth": ["momentum_buffer"],
    "Adam with depth": ["exp_avg", "exp_avg_sq"],
}
CASES = [(kind, key) for kind, keys in TENSORS.items() for key in keys]


def trained(kind: str, seed: int = 0, steps: int = 2) -> tuple[Optimizer, list[nn.Parameter]]:
    """An optimizer with one group for each of two matrices."""
    shapes = enumerate(SHAPES.values())
    params = [nn.Parameter(random_tensor(shape, seed + i)) for i, shape in shapes]
    named = zip(SHAPES, params, strict=True)
    optimizer = OPTIMIZERS[kind]([{"params": [(name, p)]} for name, p in named])
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = random_tensor(tuple(p.shape), 10 * step + i)
        optimizer.step()
    return optimizer, params


def refused(kind: str, saved: Any, error: type[Exception], message: str) -> None:
    """A load is refused and leaves everything; the next step is that of an undisturbed twin."""
    (optimizer, params), (twin, others) = trained(kind, seed=5), trained(kind, seed=5)
    before = copy_of([dict(optimizer.state_dict()), dict(optimizer.defaults)])
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(saved)
    assert_bitwise(copy_of([dict(optimizer.state_dict()), dict(optimizer.defaults)]), before)
    optimizer.step()
    twin.step()
    assert_bitwise([p.detach() for p in params], [p.detach() for p in others])


@pytest.mark.parametrize(("kind", "key"), CASES)
@pytest.mark.parametrize("damage", ["shape", "NaN", "integers", "complex"])
def test_a_damaged_tensor_of_the_last_parameter(kind: str, key: str, damage: str) -> None:
    saved = through_a_file(trained(kind)[0].state_dict())
    tensor: Tensor = saved["state"][1][key]
    if damage == "shape":
        saved["state"][1][key] = torch.ones(2, 7, dtype=tensor.dtype)
    elif damage == "NaN":
        tensor.view(-1)[-1] = NAN
    elif damage == "integers":
        saved["state"][1][key] = tensor.long()
    else:
        saved["state"][1][key] = tensor.to(torch.complex128)
    error = TypeError if damage in {"integers", "complex"} else ValueError
    refused(kind, saved, error, "^b: expected .*nothing was loaded")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("origin", "left_origin"),
        ("tracked", "tracked_image"),
        ("tracked", "tracked_rest"),
        ("layers", "layers_refactored"),
        ("layers", "layers_factor_2"),
        ("auto", "auto_weight_2"),
        ("auto", "auto_points"),
    ],
)
def test_a_state_with_a_part_missing(kind: str, key: str) -> None:
    saved = through_a_file(trained(kind)[0].state_dict())
    del saved["state"][1][key]
    refused(kind, saved, ValueError, "^b: expected .*nothing was loaded")


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("momentum", "lr", NAN),
        ("momentum", "depth", 0.5),
        ("momentum", "solver", "eigh"),
        ("tracked", "momentum", -1.0),
        ("rms", "rms_mean", NAN),
        ("auto", "auto_losses", [1.0, NAN]),
        ("auto", "auto_largest", float("inf")),
        ("SGD with depth", "depth", "3"),
        ("Adam with depth", "solver", "tracked"),
    ],
)
def test_an_option_of_the_last_group_that_it_cannot_have(
    kind: str, option: str, value: Any
) -> None:
    saved = through_a_file(trained(kind)[0].state_dict())
    saved["param_groups"][1][option] = value
    refused(kind, saved, (ValueError, TypeError), option)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_undamaged_checkpoint_loads(kind: str) -> None:
    optimizer, params = trained(kind)
    other, others = trained(kind, seed=5)
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p.data)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    for p, q in zip(params, others, strict=True):
        p.grad = q.grad = torch.ones_like(p)
    optimizer.step()
    other.step()
    assert_bitwise([q.detach() for q in others], [p.detach() for p in params])


@pytest.mark.parametrize("solver", ["tracked", "layers"])
@pytest.mark.parametrize("change", [{"depth": 2}, {"depth": 5}, {"blocks": 2}, {"solver": "svd"}])
def test_a_checkpoint_saved_between_a_change_and_its_step_loads(
    solver: str, change: dict[str, Any]
) -> None:
    weight = nn.Parameter(random_tensor((4, 4), 0))
    optimizer = EndToEndSGD([weight], lr=0.01, depth=3, solver=solver, momentum=0.9)  # type: ignore[arg-type]
    weight.grad = random_tensor((4, 4), 1)
    optimizer.step()
    optimizer.param_groups[0].update(change)
    saved = through_a_file(optimizer.state_dict())
    copied = nn.Parameter(weight.detach().clone())
    other = EndToEndSGD([copied], lr=0.01, depth=3, solver=solver, momentum=0.9)  # type: ignore[arg-type]
    other.load_state_dict(saved)
    copied.grad = weight.grad
    for one in (optimizer, other):
        one.step()
    assert_bitwise(copied.detach(), weight.detach())


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("saved", [None, {}, {"state": {}}, {"model": {}}], ids=str)
def test_what_is_no_state_of_an_optimizer(kind: str, saved: Any) -> None:
    refused(kind, saved, ValueError, "state_dict: expected one of an optimizer, with 'state' and")
