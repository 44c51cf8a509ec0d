"""Depth in the blocks of a structure, and with unequal layers: against formulas written out."""

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor
from tests.optim.structured_truth import preconditioned, sizes_of, small_square
from torch import Tensor, nn
from torch.testing import assert_close

import virtualdepth as vd

BLOCKS = ("rows", "columns", "diagonal", "circulant")
# of every structure the shapes that it takes
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "matrix": [(4, 5), (3, 2, 2)],
    "rows": [(4, 5), (3, 2, 2)],
    "columns": [(4, 5), (3, 2, 2)],
    "diagonal": [(6,), (), (3, 4), (2, 2, 2)],
    "circulant": [(7,), (8,), (3, 6), (3, 2, 5), (2, 3, 4, 3)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]


def truth(weight: Tensor, grad: Tensor, depth: float, structure: str, imbalance: float) -> Tensor:
    arrays = (np.atleast_1d(each.detach().numpy()) for each in (weight, grad))
    return torch.tensor(preconditioned(*arrays, depth, structure, imbalance)).reshape(weight.shape)


def step(
    weight: Tensor, grads: list[Tensor], **options: Any
) -> tuple[Tensor, torch.optim.Optimizer]:
    p = nn.Parameter(weight.clone())
    optimizer = vd.EndToEndSGD([p], **options)
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
    return p.detach(), optimizer


@pytest.mark.parametrize(("structure", "shape"), CASES, ids=str)
@pytest.mark.parametrize("depth", [1.5, 2, 3, 4.7, math.inf])
@pytest.mark.parametrize("imbalance", [0.0, 0.3])
def test_steps_by_hand(
    structure: str, shape: tuple[int, ...], depth: float, imbalance: float
) -> None:
    """Decay is that of N layers; momentum goes on P_W(G)."""
    if math.isinf(depth) and imbalance:
        return  # refused, see below
    weight, grads = random_tensor(shape, 1), [random_tensor(shape, 2 + i) for i in range(3)]
    options = {"structure": structure, "imbalance": imbalance, "depth": depth}
    found, _ = step(weight, grads, lr=0.01, momentum=0.9, weight_decay=0.02, **options)
    layers, velocity = 1 if math.isinf(depth) else depth, torch.zeros_like(weight)
    for grad in grads:
        move = truth(weight, grad, depth, structure, imbalance) + layers * 0.02 * weight
        velocity = 0.9 * velocity + move
        weight = weight - 0.01 * velocity
    assert_close(found, weight, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("structure", ["matrix", *BLOCKS])
def test_a_balanced_start_of_zero_stays_and_an_unequal_one_is_plain_descent(structure: str) -> None:
    """P_0 = lambda^{N-1}, whatever the blocks are."""
    shape = SHAPES[structure][0]
    zero, grad = torch.zeros(shape, dtype=torch.float64), random_tensor(shape, 1)
    moved, _ = step(zero, [grad], lr=0.1, depth=3, structure=structure, imbalance=0.2)
    assert_close(moved, -0.1 * 0.2**2 * grad, rtol=1e-12, atol=0)
    with pytest.warns(UserWarning, match="all weights are zero.*imbalance=1e-3"):
        stayed, _ = step(zero, [grad], lr=0.1, depth=3, structure=structure)
    assert_bitwise(stayed, zero)


@pytest.mark.parametrize(("structure", "shape"), CASES, ids=str)
@pytest.mark.parametrize("imbalance", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("depth", [2, 3, 5.5])
def test_unit_shares_one_scale_and_keeps_to_the_cap(
    structure: str, shape: tuple[int, ...], imbalance: float, depth: float
) -> None:
    weight, grad = random_tensor(shape, 1), random_tensor(shape, 2)
    if weight.numel() > 1:
        weight.view(-1)[0] *= 1e-3
    options: dict[str, Any] = {"depth": depth, "structure": structure, "imbalance": imbalance}
    moved, _ = step(weight, [grad], lr=1e-3, step_scale="unit", cap=1e30, **options)
    raw = truth(weight, grad, depth, structure, imbalance)
    scale = ((weight - moved) / (1e-3 * raw)).flatten()
    assert_close(scale, scale[:1].expand_as(scale), rtol=1e-9, atol=0)
    largest = sizes_of(np.atleast_1d(weight.numpy()), structure).max()
    small = small_square(largest, depth, imbalance)
    large = small + imbalance
    gain = large ** (depth - 1) + (depth - 1) * small * large ** (depth - 2)
    assert_close(scale[0].item(), 1 / gain, rtol=1e-9, atol=0)
    # at a large rate the cap decides: a singular value changes by that share of it and lam^{N/2}
    moved, _ = step(weight, [grad], lr=1e6, step_scale="unit", cap=1e-4, **options)
    before, after = (sizes_of(np.atleast_1d(x.numpy()), structure) for x in (weight, moved))
    change = np.abs(after - before) / (before + imbalance ** (depth / 2))
    assert change.max() <= 1e-4 * (1 + 1e-2)  # of first order in the step
    assert change.max() >= 1e-4 / 4


@pytest.mark.parametrize("structure", ["matrix", *BLOCKS])
@pytest.mark.parametrize("imbalance", [1e-4, 0.1])
def test_the_first_step_from_zero_is_as_small_as_the_layers(
    structure: str, imbalance: float
) -> None:
    shape = SHAPES[structure][0]
    zero, grad = torch.zeros(shape, dtype=torch.float64), random_tensor(shape, 1)
    options: dict[str, Any] = {"structure": structure, "imbalance": imbalance}
    moved, _ = step(zero, [grad], lr=1.0, depth=3, step_scale="unit", cap=0.05, **options)
    size = sizes_of(moved.numpy(), structure).max()
    assert 0.5 * 0.05 * imbalance**1.5 <= size <= 0.05 * imbalance**1.5 * (1 + 1e-9)


def product_of(layers: list[Tensor], structure: str) -> Tensor:
    """The product of explicit layers, as torch operations; of "columns" its transpose."""
    whole, *others = layers
    for other in others:
        if structure == "circulant":
            whole = torch.fft.ifft(torch.fft.fft(whole) * torch.fft.fft(other)).real
        else:  # gates have one entry a row
            whole = other * whole
    return whole


def explicit_start(weight: Tensor, structure: str, depth: int, imbalance: float) -> list[Tensor]:
    """One layer of squared sizes t, and N - 1 of t + lambda."""
    spectrum = torch.fft.fft(weight) if structure == "circulant" else weight
    gates = structure in {"rows", "columns"}
    size = spectrum.norm(dim=-1, keepdim=True) if gates else spectrum.abs()
    t = torch.tensor(
        [small_square(s, depth, imbalance) for s in size.flatten().tolist()], dtype=torch.float64
    ).reshape(size.shape)
    first, other = spectrum / size * t.sqrt(), (t + imbalance).sqrt()
    if structure == "circulant":
        first, other = torch.fft.ifft(first).real, torch.fft.ifft(other).real
    return [first.clone(), *[other.clone() for _ in range(depth - 1)]]


@pytest.mark.parametrize("structure", ["rows", "columns", "diagonal", "circulant"])
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("imbalance", [0.0, 0.5])
def test_it_follows_the_explicit_layers(structure: str, depth: int, imbalance: float) -> None:
    """The gap falls like the learning rate; with another depth it stays."""
    shape: tuple[int, ...] = (4, 3) if structure in {"rows", "columns"} else (9,)
    start = random_tensor(shape, 1) * 0.5
    inputs = random_tensor((30, start.numel()), 2)
    targets = random_tensor((30,), 3)

    def loss_of(weight: Tensor) -> Tensor:
        return (inputs @ weight.flatten() - targets).square().mean() / 2

    def turned(tensor: Tensor) -> Tensor:
        return tensor.mT if structure == "columns" else tensor

    def gap(lr: float, depth_of_rule: float) -> float:
        layers = [
            layer.requires_grad_()
            for layer in explicit_start(turned(start), structure, depth, imbalance)
        ]
        p = nn.Parameter(start.clone())
        deep = torch.optim.SGD(layers, lr=lr)
        options: dict[str, Any] = {"structure": structure, "imbalance": imbalance}
        single = vd.EndToEndSGD([p], lr=lr, depth=depth_of_rule, **options)
        assert_close(turned(product_of(layers, structure)).detach(), start, rtol=1e-10, atol=1e-12)
        for _ in range(round(0.8 / lr)):
            for optimizer, weight in ((deep, turned(product_of(layers, structure))), (single, p)):
                optimizer.zero_grad()
                loss_of(weight).backward()
                optimizer.step()
        other = turned(product_of(layers, structure)).detach()
        return float((p.detach() - other).norm() / other.norm())

    coarse, fine = gap(0.04, depth), gap(0.02, depth)
    assert 0.9 <= math.log2(coarse / fine) <= 1.1
    assert gap(0.02, depth + 1) > 10 * fine


def test_options_are_live() -> None:
    start, grad = random_tensor((4, 3), 1), random_tensor((4, 3), 2)
    p = nn.Parameter(start.clone())
    optimizer = vd.EndToEndSGD([p], lr=0.1, depth=3)
    for structure, imbalance in (("rows", 0.0), ("diagonal", 0.2), ("matrix", 0.2)):
        optimizer.param_groups[0].update(structure=structure, imbalance=imbalance)
        p.grad, before = grad.clone(), p.detach().clone()
        optimizer.step()
        expected = before - 0.1 * truth(before, grad, 3, structure, imbalance)
        assert_close(p.detach(), expected, rtol=1e-10, atol=1e-12)
    for key, value in (("structure", "blocks"), ("imbalance", -1.0), ("imbalance", math.nan)):
        kept = optimizer.param_groups[0][key]
        optimizer.param_groups[0][key] = value
        before = p.detach().clone()
        with pytest.raises(ValueError, match=f"{key}: expected"):
            optimizer.step()
        assert_bitwise(p.detach(), before)
        optimizer.param_groups[0][key] = kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "row"}, "structure: expected one of"),
        ({"imbalance": "much"}, "imbalance: expected a"),
        ({"imbalance": 0.1, "depth": math.inf}, "imbalance: expected 0 at infinite depth"),
        ({"imbalance": 0.1, "depth": math.inf, "step_scale": "auto"}, "imbalance: expected 0 at"),
        ({"structure": "rows", "solver": "tracked"}, "solver: .*structure='rows'.*whole"),
        ({"structure": "rows", "solver": "layers"}, "solver: .*structure='rows'.*whole"),
        ({"structure": "rows", "step_scale": "auto"}, "step_scale: .*structure='rows'.*whole"),
    ],
    ids=str,
)
def test_what_cannot_go_together_is_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        vd.EndToEndSGD([torch.ones(2, 2)], **{"depth": 2, **options})


def test_vectors_take_part_where_they_have_blocks() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model.register_parameter("gain", nn.Parameter(torch.ones(3)))
    model.register_parameter("factor", nn.Parameter(torch.tensor(2.0)))

    def deep(optimizer: torch.optim.Optimizer) -> list[str]:
        return [each.parameter for each in vd.routing(optimizer) if each.depth != 1]

    chosen = {
        "matrix": ["0.weight"],
        "rows": ["0.weight"],
        "columns": ["0.weight"],
        "diagonal": ["gain", "factor", "0.weight"],
        "circulant": ["gain", "0.weight"],
    }
    for structure, names in chosen.items():
        groups = vd.param_groups(model, 2, structure=structure)
        assert deep(vd.EndToEndSGD(groups)) == names
        for on in ("gradient", "update"):
            optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
            vd.with_depth(optimizer, 2, on=on, model=model, structure=structure, step_scale="raw")
            assert deep(optimizer) == names
    groups = vd.param_groups(model, 2, structure="diagonal", include=["*.bias", "1"])
    assert deep(vd.EndToEndSGD(groups)) == ["0.bias", "1.weight", "1.bias"]
    everything = vd.EndToEndSGD(model.named_parameters(), depth=2, structure="diagonal")
    assert len(deep(everything)) == 6
    with pytest.raises(ValueError, match="structure: expected one of"):
        vd.param_groups(model, 2, structure="all")


def test_convolutions_with_groups_or_transposed_are_refused_where_they_mean_nothing() -> None:
    grouped, turned = nn.Conv1d(4, 4, 3, groups=2), nn.ConvTranspose1d(4, 4, 3)
    refused = {
        "rows": [turned],
        "columns": [turned],
        "diagonal": [],
        "circulant": [grouped],
    }
    for structure, modules in refused.items():
        for module in (grouped, turned):
            groups = partial(vd.param_groups, module, 3, structure=structure)
            by_hand = {"params": [module.weight], "structure": structure}
            by_hand |= {"conv_groups": 2} if module is grouped else {"transposed": True}
            if module in modules:
                with pytest.raises(ValueError, match=f"weight: .*structure='{structure}'.*exclude"):
                    groups()
                with pytest.raises(ValueError, match=f"structure='{structure}'.*exclude"):
                    vd.EndToEndSGD([by_hand], depth=3)
            else:
                module.weight.grad = torch.ones_like(module.weight)
                vd.EndToEndSGD(groups()).step()
                vd.EndToEndSGD([by_hand], depth=3).step()


def test_the_routing_table_names_both() -> None:
    named = [("gain", nn.Parameter(torch.ones(3))), ("kernel", nn.Parameter(torch.ones(2, 3, 4)))]
    optimizer = vd.EndToEndSGD(named, depth=3, structure="circulant", imbalance=0.01)
    assert [" ".join(line.split()) for line in str(vd.routing(optimizer)).splitlines()] == [
        "parameter shape matrix depth structure imbalance solver state bytes",
        "gain (3,) 2 of 1 x 1 3 circulant 0.01 closed form 0",
        "kernel (2, 3, 4) 3 of 2 x 3 3 circulant 0.01 svd 0",
    ]
    plain = vd.EndToEndSGD([nn.Parameter(torch.ones(3, 2))], depth=3)
    assert "structure" not in str(vd.routing(plain))


@pytest.mark.parametrize("structure", ["matrix", *BLOCKS])
@pytest.mark.parametrize("imbalance", [0.0, 0.1])
@pytest.mark.parametrize("on", ["gradient", "update"])
def test_with_depth_is_the_same_rule_and_undoes_a_failed_step(
    structure: str, imbalance: float, on: Any
) -> None:
    shape = SHAPES[structure][0]
    start, grad = random_tensor(shape, 1), random_tensor(shape, 2)
    options: dict[str, Any] = {"structure": structure, "imbalance": imbalance}
    p = nn.Parameter(start.clone())
    sgd = torch.optim.SGD([p], lr=0.1)
    optimizer = vd.with_depth(sgd, 3, on=on, step_scale="raw", **options)
    p.grad = grad.clone()
    optimizer.step()
    expected = start - 0.1 * truth(start, grad, 3, structure, imbalance)
    assert_close(p.detach(), expected, rtol=1e-10, atol=1e-12)
    optimizer.param_groups[0]["lr"] = 1e10
    before = copy_of([p.detach(), optimizer.state_dict()])
    p.grad = torch.full_like(p, 1e308)
    with pytest.raises(FloatingPointError, match="expected a finite"):
        optimizer.step()
    assert_bitwise(copy_of([p.detach(), optimizer.state_dict()]), before)


@pytest.mark.parametrize("structure", ["matrix", *BLOCKS])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(structure: str, dtype: torch.dtype) -> None:
    shape = SHAPES[structure][0]
    weight, grad = (random_tensor(shape, seed).to(dtype) for seed in (1, 2))
    options: dict[str, Any] = {"structure": structure, "imbalance": 0.1, "depth": 3}
    moved, _ = step(weight, [grad], lr=0.1, **options)
    wide, _ = step(weight.float(), [grad.float()], lr=0.1, **options)
    assert_bitwise(moved, wide.to(dtype))


def test_a_step_that_cannot_be_computed_changes_nothing() -> None:
    good, bad = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    optimizer = vd.EndToEndSGD([good, bad], depth=2, structure="diagonal", momentum=0.9)
    good.grad, bad.grad = torch.ones(3), torch.tensor([[1.0, math.nan], [0.0, 0.0]])
    before = copy_of(optimizer.state_dict())
    with pytest.raises(FloatingPointError, match=r"parameter 1 .*finite gradient"):
        optimizer.step()
    assert_bitwise(good.detach(), torch.ones(3))
    assert_bitwise(optimizer.state_dict(), before)


def test_a_checkpoint_without_the_options_leaves_them_as_they_are() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    old = vd.EndToEndSGD([p], depth=2, momentum=0.9).state_dict()
    for group in old["param_groups"]:
        del group["structure"], group["imbalance"]
    optimizer = vd.EndToEndSGD([p], depth=2, structure="rows", imbalance=0.1)
    optimizer.load_state_dict(old)
    group = optimizer.param_groups[0]
    assert (group["structure"], group["imbalance"], group["momentum"]) == ("rows", 0.1, 0.9)


def test_an_adapter_of_zeros_trains_with_unequal_layers() -> None:
    """As in LoRA: W + B A with B = 0. Balanced layers never move B; unequal ones do."""
    frozen, inputs = random_tensor((6, 8), 1), random_tensor((50, 8), 2)
    change = random_tensor((6, 1), 3) @ random_tensor((1, 8), 4)
    targets = inputs @ (frozen + change).mT
    losses = {}
    for imbalance in (0.0, 0.1):
        up = nn.Parameter(torch.zeros(6, 4, dtype=torch.float64))
        down = nn.Parameter(random_tensor((4, 8), 5) / 8**0.5)
        optimizer = vd.EndToEndSGD(
            [("up", up), ("down", down)], lr=0.3, depth=2, imbalance=imbalance, step_scale="unit"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if imbalance == 0 else "error")
            for _ in range(200):
                optimizer.zero_grad()
                loss = (inputs @ (frozen + up @ down).mT - targets).square().mean()
                loss.backward()
                optimizer.step()
        losses[imbalance] = loss.item()
        assert bool(up.any()) == (imbalance > 0)
    assert losses[0.1] < 1e-3 * losses[0.0]
