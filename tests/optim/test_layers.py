"""solver="layers" against the explicit network under torch.optim.SGD."""

import math
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, everything, random_tensor
from torch import Tensor, nn

import virtualdepth as vd

SETTINGS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02},
]


def gap_after(
    steps: int, shape: tuple[int, int], depth: int, hidden: Any, options: dict[str, Any]
) -> float:
    """The largest relative difference on the way of both through one ill-conditioned regression."""
    start, target = random_tensor(shape, 1) / 3, random_tensor(shape, 2)
    inputs = torch.diag(torch.linspace(1, 0.2, shape[1], dtype=torch.float64))
    deep = vd.DeepLinear.from_weight(start, depth, hidden)
    weight = nn.Parameter(start.clone())
    ours = vd.EndToEndSGD(
        [{"params": [weight], "hidden_features": hidden}],
        lr=0.02,
        depth=depth,
        solver="layers",
        **options,
    )
    theirs = torch.optim.SGD(deep.parameters(), lr=0.02, **options)
    worst = 0.0
    for _ in range(steps):
        ends = []
        for optimizer, end_to_end in ((ours, lambda: weight), (theirs, deep.end_to_end)):
            optimizer.zero_grad()
            (((end_to_end() - target) @ inputs) ** 2).sum().div(2).backward()
            optimizer.step()
            ends.append(end_to_end().detach())
        worst = max(worst, float((ends[0] - ends[1]).norm() / ends[1].norm()))
    assert float((weight.detach() - start).norm()) > 0.3 * float(start.norm())  # it went somewhere
    assert [route.note for route in vd.routing(ours)] == [""]
    return worst


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("shape", "depth", "hidden"),
    [((6, 6), 2, None), ((5, 7), 3, 9), ((7, 4), 4, [5, 8, 4]), ((1, 5), 3, None), ((4, 1), 2, 3)],
    ids=str,
)
def test_it_is_the_explicit_network(
    shape: tuple[int, int], depth: int, hidden: Any, options: dict[str, Any]
) -> None:
    assert gap_after(100, shape, depth, hidden, options) < 1e-12


@pytest.mark.parametrize(
    ("shape", "depth", "options"),
    [((6, 6), 2, {"momentum": 0.9}), ((5, 7), 3, {}), ((8, 8), 5, {})],
    ids=str,
)
def test_it_is_the_explicit_network_after_two_thousand_steps(
    shape: tuple[int, int], depth: int, options: dict[str, Any]
) -> None:
    """Rounding does not add up: after 200 or 10,000 steps the gap is the same few eps."""
    assert gap_after(2_000, shape, depth, None, options) < 1e-13


def explicit(blocks: list[Tensor], grads: list[Tensor], depth: int) -> Tensor:
    moved = []
    for block, grad in zip(blocks, grads, strict=True):
        factors = [factor.requires_grad_() for factor in vd.balanced_factors(block, depth)]
        (vd.end_to_end_product(factors) * grad).sum().backward()
        moved.append(
            vd.end_to_end_product([(f - 0.1 * f.grad).detach() for f in factors]),
        )
    return torch.cat(moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (1, 1), (2, 3, 4), (2, 3, 2, 2)], ids=str)
def test_every_shape_is_a_matrix(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    p = nn.Parameter(random_tensor(shape, 1, dtype))
    p.grad = random_tensor(shape, 2, dtype)
    expected = explicit([p.detach().flatten(1)], [p.grad.flatten(1)], 3)
    vd.EndToEndSGD([p], lr=0.1, depth=3, solver="layers").step()
    tolerance = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(p.detach().flatten(1), expected, rtol=tolerance, atol=tolerance)


def test_it_ascends_where_torch_does() -> None:
    weight, options = random_tensor((4, 3), 1), {"lr": 0.01, "momentum": 0.9, "maximize": True}
    deep, p = vd.DeepLinear.from_weight(weight, 3), nn.Parameter(weight.clone())
    ours = vd.EndToEndSGD([p], depth=3, solver="layers", **options)
    theirs = torch.optim.SGD(deep.parameters(), **options)
    for step in range(4):
        p.grad = random_tensor((4, 3), 10 + step)
        theirs.zero_grad()
        (deep.end_to_end() * p.grad).sum().backward()
        ours.step()
        theirs.step()
    torch.testing.assert_close(p.detach(), deep.end_to_end().detach(), rtol=1e-12, atol=1e-12)


def test_packed_blocks_have_layers_each() -> None:
    packed = nn.Parameter(random_tensor((6, 4), 1))
    packed.grad = random_tensor((6, 4), 2)
    expected = explicit([*packed.detach().chunk(3)], [*packed.grad.chunk(3)], 2)
    group = {"params": [packed], "blocks": 3}
    vd.EndToEndSGD([group], lr=0.1, depth=2, solver="layers").step()
    torch.testing.assert_close(packed.detach(), expected, rtol=1e-12, atol=1e-12)


def trained(steps: int = 3, **options: Any) -> tuple[nn.Parameter, vd.EndToEndSGD]:
    p = nn.Parameter(random_tensor((4, 3), 1))
    optimizer = vd.EndToEndSGD([("layer", p)], lr=0.05, depth=3, solver="layers", **options)
    for step in range(steps):
        p.grad = random_tensor((4, 3), 10 + step)
        optimizer.step()
    return p, optimizer


def in_place(p: Tensor) -> None:
    with torch.no_grad():
        p[0, 0] += 1e-15 * p[0, 0].abs() + 4e-16  # the smallest change there is


def by_data(p: Tensor) -> None:
    p.data.mul_(1 - 1e-6)  # which no version counts


def swapped(p: Tensor) -> None:
    p.data = random_tensor((4, 3), 77)


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("change", [in_place, by_data, swapped])
def test_a_change_from_outside_is_noticed(change: Any, momentum: float) -> None:
    p, optimizer = trained(momentum=momentum)
    change(p)
    fresh = nn.Parameter(p.detach().clone())
    p.grad = fresh.grad = random_tensor((4, 3), 99)
    optimizer.step()
    vd.EndToEndSGD([fresh], lr=0.05, depth=3, solver="layers", momentum=momentum).step()
    torch.testing.assert_close(p, fresh, rtol=1e-13, atol=1e-13)
    (route,) = vd.routing(optimizer)
    assert "1 times" in route.note
    assert f"layer: {route.note}" in str(vd.routing(optimizer))
    p.grad = random_tensor((4, 3), 98)
    optimizer.step()
    assert optimizer.state[p]["layers_refactored"] == 1  # and not again


def test_a_write_that_changes_nothing_keeps_the_factors() -> None:
    p, optimizer = trained()
    twin, other = trained()
    with torch.no_grad():
        p.copy_(p.clone())
    for each, its in ((p, optimizer), (twin, other)):
        each.grad = random_tensor((4, 3), 99)
        its.step()
    assert_bitwise(everything([p], optimizer), everything([twin], other))


def test_the_depth_and_the_solver_are_live() -> None:
    p, optimizer = trained(momentum=0.9)
    for options in ({"depth": 2}, {"depth": 5}, {"solver": "svd"}, {"solver": "layers"}):
        optimizer.param_groups[0].update(options)
        before, depth = p.detach().clone(), optimizer.param_groups[0]["depth"]
        p.grad = random_tensor((4, 3), 99)
        optimizer.step()
        if optimizer.param_groups[0]["solver"] == "layers":
            torch.testing.assert_close(
                p.detach(),
                vd.end_to_end_product(
                    [
                        factor - 0.05 * gradient
                        for factor, gradient in zip(
                            *factors_and_gradients(before, p.grad, depth), strict=True
                        )
                    ]
                ),
                rtol=1e-12,
                atol=1e-12,
            )
            kept = [key for key in optimizer.state[p] if key.startswith("layers_factor_")]
            assert len(kept) == depth


def factors_and_gradients(
    weight: Tensor, grad: Tensor, depth: int
) -> tuple[list[Tensor], list[Tensor]]:
    factors = [factor.requires_grad_() for factor in vd.balanced_factors(weight, depth)]
    (vd.end_to_end_product(factors) * grad).sum().backward()
    return [f.detach() for f in factors], [f.grad for f in factors]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_is_whole_or_not_at_all(bad: float) -> None:
    p, optimizer = trained(momentum=0.9)
    q = nn.Parameter(random_tensor((2, 2), 3))
    optimizer.add_param_group({"params": [("other", q)]})
    with torch.no_grad():
        p.mul_(2)  # would be noticed, factored anew and counted
    p.grad, q.grad = random_tensor((4, 3), 4), torch.full((2, 2), bad, dtype=q.dtype)
    before = everything([p, q], optimizer)
    with pytest.raises(FloatingPointError, match="other"):
        optimizer.step()
    assert_bitwise(everything([p, q], optimizer), before)
    q.grad = torch.full_like(q, 1e200)  # the product of what it leads to overflows
    with pytest.raises(FloatingPointError, match="other"):
        optimizer.step()
    assert_bitwise(everything([p, q], optimizer), before)


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_a_rate_of_zero_leaves_the_weight(momentum: float) -> None:
    p, optimizer = trained(momentum=momentum, steps=0)
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy_of(p)
    for _ in range(2):
        p.grad = random_tensor((4, 3), 5)
        optimizer.step()
        assert_bitwise(p.detach(), before)
    assert vd.routing(optimizer).routes[0].note == ""


def test_routing_counts_the_bytes_of_layers_momenta_and_products() -> None:
    _, optimizer = trained(momentum=0.9)
    layers = 4 * 3 + 3 * 3 + 3 * 3
    (route,) = vd.routing(optimizer)
    assert route.solver == "layers"
    # probe: 4; partial product of two layers: 3 x 3
    assert route.state_bytes == 8 * (2 * layers + 4 + 9)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"depth": 2.5}, ValueError, "depth: expected an integer"),
        ({"depth": math.inf}, ValueError, "depth: expected an integer"),
        ({"depth": 1001}, ValueError, "depth: expected an integer <= 1000 .* solver='auto'"),
        ({"step_scale": "rms"}, ValueError, "step_scale: expected 'raw'"),
        ({"origin": "init"}, ValueError, "origin: expected None"),
        ({"rtol": 1e-9}, ValueError, "rtol: expected None"),
        ({"solver": "eigh"}, ValueError, "solver: expected one of"),
    ],
    ids=str,
)
def test_what_has_no_explicit_network_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    settings = {"depth": 3, "solver": "layers", **options}
    with pytest.raises(error, match=message):
        vd.EndToEndSGD([torch.ones(2, 2)], **settings)
    _, optimizer = trained()
    optimizer.param_groups[0].update(options)
    with pytest.raises(error, match=message):
        optimizer.step()


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"hidden_features": 2}, ValueError, "layer: hidden_features: expected widths >="),
        ({"hidden_features": [3, 3, 3]}, ValueError, "layer: hidden_features: expected one width"),
        ({"hidden_features": 3.5}, TypeError, "layer: hidden_features: expected an integer"),
        ({"hidden_features": 3, "solver": "svd"}, ValueError, "hidden_features: expected None"),
    ],
    ids=str,
)
def test_widths_that_do_not_fit_are_refused(
    group: dict[str, Any], error: type[Exception], message: str
) -> None:
    params = {"params": [("layer", nn.Parameter(torch.ones(4, 3)))], "depth": 3}
    with pytest.raises(error, match=message):
        vd.EndToEndSGD([{"solver": "layers", **params, **group}])


def test_half_precision_is_refused() -> None:
    with pytest.raises(TypeError, match="expected float32 or float64 with solver='layers'"):
        vd.EndToEndSGD([nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))], solver="layers")


def test_another_optimizer_cannot_have_layers() -> None:
    with pytest.raises(ValueError, match="solver: expected 'auto' or 'svd'"):
        vd.with_depth(
            torch.optim.SGD([torch.ones(2, 2)], lr=0.1),
            3,
            solver="layers",
            step_scale="raw",
            on="gradient",
        )


def test_decay_of_layers_shrinks_their_imbalance() -> None:
    """The rule on W, which has no layers, keeps it."""
    p = nn.Parameter(random_tensor((3, 4), 1))
    decay, lr, steps, imbalance = 0.5, 1e-3, 400, 0.4
    optimizer = vd.EndToEndSGD(
        [p], lr=lr, depth=3, solver="layers", weight_decay=decay, imbalance=imbalance
    )
    for _ in range(steps):
        p.grad = p.detach() - random_tensor((3, 4), 2)
        optimizer.step()
    state = optimizer.state[p]
    first, second, _ = (state[f"layers_factor_{number}"] for number in (1, 2, 3))
    found = second.mT @ second - first @ first.mT
    expected = imbalance * math.exp(-2 * decay * lr * steps) * torch.eye(3).double()
    torch.testing.assert_close(found[:3, :3], expected, rtol=0, atol=0.02 * imbalance)
