"""Which parameter gets depth, and as which matrices: over real modules."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import virtualdepth as vd


def routes(model: nn.Module, **options: Any) -> dict[str, str]:
    """name -> matrix, of what has depth."""
    optimizer = vd.EndToEndSGD(vd.param_groups(model, 3, **options), lr=0.1)
    return {route.parameter: route.matrix for route in vd.routing(optimizer) if route.depth == 3}


MODULES: dict[str, tuple[Any, dict[str, str]]] = {
    "linear": (lambda: nn.Linear(5, 3), {"weight": "3 x 5"}),
    "bilinear": (lambda: nn.Bilinear(2, 3, 4), {"weight": "4 x 6"}),
    "convolution": (lambda: nn.Conv2d(4, 6, 3), {"weight": "6 x 36"}),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), {"weight": "2 of 3 x 18"}),
    "depthwise": (lambda: nn.Conv1d(4, 4, 3, groups=4), {"weight": "4 of 1 x 3"}),
    "three dimensions": (lambda: nn.Conv3d(2, 3, 2), {"weight": "3 x 16"}),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3), {"weight": "54 x 4"}),
    "transposed, grouped": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
        {"weight": "2 of 27 x 2"},
    ),
    "attention": (
        lambda: nn.MultiheadAttention(6, 2, add_bias_kv=True),
        {"in_proj_weight": "3 of 6 x 6", "out_proj.weight": "6 x 6"},
    ),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(6, 2, kdim=4, vdim=5),
        {
            "q_proj_weight": "6 x 6",
            "k_proj_weight": "6 x 4",
            "v_proj_weight": "6 x 5",
            "out_proj.weight": "6 x 6",
        },
    ),
    "LSTM": (
        lambda: nn.LSTM(3, 5, proj_size=2),
        {
            "weight_ih_l0": "4 of 5 x 3",
            "weight_hh_l0": "4 of 5 x 2",
            "weight_hr_l0": "2 x 5",
        },
    ),
    "GRU": (
        lambda: nn.GRU(3, 5, bidirectional=True),
        {
            "weight_ih_l0": "3 of 5 x 3",
            "weight_hh_l0": "3 of 5 x 5",
            "weight_ih_l0_reverse": "3 of 5 x 3",
            "weight_hh_l0_reverse": "3 of 5 x 5",
        },
    ),
    "cells": (
        lambda: nn.ModuleList([nn.LSTMCell(3, 2), nn.GRUCell(3, 2), nn.RNNCell(3, 2)]),
        {
            "0.weight_ih": "4 of 2 x 3",
            "0.weight_hh": "4 of 2 x 2",
            "1.weight_ih": "3 of 2 x 3",
            "1.weight_hh": "3 of 2 x 2",
            "2.weight_ih": "2 x 3",
            "2.weight_hh": "2 x 2",
        },
    ),
    "plain ones": (
        lambda: nn.ModuleList(
            [
                nn.Embedding(7, 3),
                nn.EmbeddingBag(7, 3),
                nn.LayerNorm((2, 3)),
                nn.BatchNorm2d(3),
                nn.GroupNorm(1, 4),
                nn.RMSNorm((2, 3)),
                nn.InstanceNorm2d(3, affine=True),
                nn.PReLU(),
            ]
        ),
        {},
    ),
}


@pytest.mark.parametrize(("make", "expected"), MODULES.values(), ids=MODULES)
def test_each_type_of_module(make: Any, expected: dict[str, str]) -> None:
    model = make()
    assert routes(model) == expected
    groups = vd.param_groups(model, 3)
    names = [name for group in groups for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def small() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            tokens=nn.Embedding(7, 4),
            body=nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)),
            head=nn.Linear(4, 2),
        )
    )


PATTERNS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing said": ({}, {"body.0.weight", "body.2.weight", "head.weight"}),
    "a module": ({"include": "head"}, {"head.weight"}),
    "wildcards": ({"include": ["bo*2*", "head.w?ight"]}, {"body.2.weight", "head.weight"}),
    "a class of characters": ({"include": "body.[0-1].*"}, {"body.0.weight"}),
    "a type": ({"include": nn.Embedding}, {"tokens.weight"}),
    "a type around": (
        {"include": nn.Sequential, "exclude": nn.Embedding},
        {"body.0.weight", "body.2.weight", "head.weight"},
    ),
    "a callable": ({"include": lambda name, module, p: p.shape == (2, 4)}, {"head.weight"}),
    "several kinds": (
        {"include": ["head", nn.Embedding], "exclude": "tokens*"},
        {"head.weight"},
    ),
    "exclude alone": ({"exclude": "body.*"}, {"head.weight"}),
}  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_patterns(options: dict[str, Any], expected: set[str]) -> None:
    assert set(routes(small(), **options)) == expected
    given = vd.with_depth(
        torch.optim.SGD(small().parameters(), lr=0.1), 3, step_scale="raw", on="gradient"
    )
    assert {route.depth for route in vd.routing(given)} == {1, 3}
    model = small()
    given = vd.with_depth(
        torch.optim.SGD(model.named_parameters(), lr=0.1), 3, model=model, **options
    )
    assert {route.parameter for route in vd.routing(given) if route.depth == 3} == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"include": "tail*"}, ValueError, r"include: .*'tail\*'.*tokens.weight"),
        ({"exclude": ["head", "Head"]}, ValueError, "exclude: .*'Head'"),
        ({"include": nn.Conv2d}, ValueError, "include: .*Conv2d"),
        ({"include": lambda *_: False}, ValueError, "include: "),
        ({"include": "head.bias"}, ValueError, "include: .*head.bias"),
        ({"include": nn.LayerNorm}, ValueError, "include: .*LayerNorm"),
        ({"include": 3}, TypeError, "include: expected names .* but got 3"),
        ({"include": [3]}, TypeError, "include: expected names .* but got 3"),
    ],
)
def test_a_pattern_that_reaches_nothing_is_an_error(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        vd.param_groups(small(), 3, **options)
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=message):
        vd.with_depth(optimizer, 3, model=model, **options)
    assert type(optimizer) is torch.optim.SGD
    assert "depth" not in optimizer.param_groups[0]


def test_says_what_to_pass_in_place_of_parameters() -> None:
    model = small()
    for given in (model.parameters(), [*model.parameters()], dict(model.named_parameters())):
        message = f"^model: expected an nn.Module but got {type(given).__name__}; pass the model"
        with pytest.raises(TypeError, match=message):
            vd.param_groups(given, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(TypeError, match=message):
            vd.with_depth(optimizer, 3, model=given, step_scale="raw", on="gradient")
        assert type(optimizer) is torch.optim.SGD


def test_with_depth_takes_names_without_a_model() -> None:
    model = small()
    optimizer = vd.with_depth(
        torch.optim.SGD(model.named_parameters()),
        3,
        include="head*",
        step_scale="raw",
        on="gradient",
    )
    assert [r.parameter for r in vd.routing(optimizer) if r.depth == 3] == ["head.weight"]
    with pytest.raises(ValueError, match="names"):
        vd.with_depth(
            torch.optim.SGD(small().parameters()),
            3,
            include="head*",
            step_scale="raw",
            on="gradient",
        )


def test_tied_weights_appear_once_and_stay_plain() -> None:
    model = small()
    model.head = nn.Linear(4, 7, bias=False)
    model.head.weight = model.tokens.weight
    assert set(routes(model)) == {"body.0.weight", "body.2.weight"}
    assert routes(model, include="head") == {"tokens.weight": "7 x 4"}
    names = [name for group in vd.param_groups(model, 3) for name, _ in group["params"]]
    assert names.count("tokens.weight") == 1
    assert "head.weight" not in names


def old_style(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


PARAMETRIZED = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm, old": old_style,
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm, old": nn.utils.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
}


@pytest.mark.parametrize("parametrize", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_parametrized_weights_are_refused(parametrize: Any) -> None:
    model = nn.Sequential(parametrize(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"^0\..*parametrization.*remove.*exclude"):
        vd.param_groups(model, 3)
    assert routes(model, exclude="0") == {"1.weight": "2 x 4"}


def test_lazy_parameters_are_seen_as_their_modules_use_them() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 1, groups=2), nn.LazyBatchNorm2d(), nn.Linear(4, 2))
    optimizer = vd.EndToEndSGD(vd.param_groups(model, 3), lr=0.1)
    assert {route.matrix for route in vd.routing(optimizer)} == {"-", "2 x 4"}
    model[0](torch.ones(1, 6, 3, 3))
    assert {route.matrix for route in vd.routing(optimizer)} == {"-", "2 of 2 x 3", "2 x 4"}


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"conv_groups": 3}, ValueError, "divide into 3"),
        ({"blocks": 0}, ValueError, "blocks"),
        ({"transposed": "yes"}, TypeError, "transposed"),
    ],
)
def test_a_view_that_does_not_fit_is_refused(
    group: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        vd.EndToEndSGD([{"params": [nn.Parameter(torch.ones(4, 3))], **group}], lr=0.1)


def test_the_table() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Linear(8, 1), nn.Embedding(5, 2))
    optimizer = vd.EndToEndSGD(vd.param_groups(model, float("inf")), lr=0.1, momentum=0.9)
    lines = str(vd.routing(optimizer)).splitlines()
    assert lines[0].split() == ["parameter", "shape", "matrix", "depth", "solver", "state", "bytes"]
    assert any(line.split()[-3:] == ["inf", "svd", "576"] for line in lines)
    assert "freezes" in lines[-1]
    assert len(vd.routing(optimizer)) == 5
    # any optimizer, with names or without
    assert "parameter 0 of group 0" in str(vd.routing(torch.optim.SGD([torch.ones(2, 2)])))


def explicit_step(blocks: list[Tensor], grads: list[Tensor], lr: float, depth: int) -> list[Tensor]:
    """One step of gradient descent on the factors of each matrix, by autograd."""
    moved = []
    for block, grad in zip(blocks, grads, strict=True):
        factors = [factor.requires_grad_() for factor in vd.balanced_factors(block, depth)]
        (vd.end_to_end_product(factors) * grad).sum().backward()
        steps = [factor.detach() - lr * factor.grad for factor in factors]
        moved.append(vd.end_to_end_product(steps))
    return moved


def conv_matrices(layer: nn.Module, tensor: Tensor) -> list[Tensor]:
    """Each group's linear map, from what a kernel takes in to what it gives out."""
    groups = layer.groups
    per_group = tensor.chunk(groups)
    if isinstance(layer, nn.ConvTranspose2d):
        # y[o, position] = sum_i x[i] kernel[i, o, position]
        return [torch.einsum("iokl->okli", part).reshape(-1, part.shape[0]) for part in per_group]
    return [part.reshape(part.shape[0], -1) for part in per_group]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 2),
        nn.Conv2d(4, 6, 2, groups=2),
        nn.ConvTranspose2d(4, 6, 2),
        nn.ConvTranspose2d(4, 6, 2, groups=2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("through", ["EndToEndSGD", "with_depth"])
def test_kernels_move_as_the_deep_linear_maps_they_are(layer: nn.Module, through: str) -> None:
    """A small step on explicit factors of each group's map differs by the square of the rate."""
    layer = layer.double()
    lr, depth = 1e-6, 3
    kernel = random_tensor(tuple(layer.weight.shape), 1)
    grad = random_tensor(tuple(layer.weight.shape), 2)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    layer.weight.grad = grad
    if through == "EndToEndSGD":
        optimizer: Any = vd.EndToEndSGD(vd.param_groups(layer, depth), lr=lr)
    else:
        optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
        vd.with_depth(optimizer, depth, model=layer, step_scale="raw", on="gradient")
    optimizer.step()
    moved = conv_matrices(layer, layer.weight.detach())
    start, grads = conv_matrices(layer, kernel), conv_matrices(layer, grad)
    for end, before, expected in zip(
        moved, start, explicit_step(start, grads, lr, depth), strict=True
    ):
        torch.testing.assert_close(
            (end - before) / lr, (expected - before) / lr, rtol=1e-3, atol=1e-3
        )


def test_packed_blocks_move_alone() -> None:
    """Each of query, key and value as it would in a layer of its own."""
    attention = nn.MultiheadAttention(4, 2).double()
    packed = attention.in_proj_weight
    parts = [nn.Parameter(part.detach().clone()) for part in packed.chunk(3)]
    packed.grad = random_tensor((12, 4), 3)
    for part, grad in zip(parts, packed.grad.chunk(3), strict=True):
        part.grad = grad.clone()
    vd.EndToEndSGD(vd.param_groups(attention, 3), lr=0.1).step()
    vd.EndToEndSGD(parts, lr=0.1, depth=3).step()
    torch.testing.assert_close(packed, torch.cat(parts), rtol=1e-12, atol=1e-12)


def test_what_is_no_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match="optimizer: expected an optimizer but got Linear"):
        vd.routing(nn.Linear(2, 2))  # type: ignore[arg-type]
