"""What a step would write is checked before it writes: weights, momenta and state, of all kinds."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from virtualdepth import EndToEndSGD, routing, with_depth
from virtualdepth.optim._finite_check import FiniteCheck

INF, NAN = math.inf, math.nan

Named = list[tuple[str, nn.Parameter]]
Spoil = Callable[[Optimizer, Named], None]


def parameters(dtype: torch.dtype = torch.float32, depth_two: bool = False) -> Named:
    """Two matrices and a bias, each with a gradient."""
    named = [
        ("first", nn.Parameter(random_tensor((3, 4), 0, dtype))),
        ("bias", nn.Parameter(random_tensor((4,), 1, dtype))),
        ("last", nn.Parameter(random_tensor((4, 3), 2, dtype))),
    ]
    for seed, (_, p) in enumerate(named):
        p.grad = random_tensor(tuple(p.shape), 10 + seed, dtype)
    return named


def snapshot(optimizer: Optimizer, named: Named) -> Any:
    """All that a failed step must leave: also a state that was not there."""
    states = [optimizer.state.get(p) for _, p in named]
    groups = [
        {key: value for key, value in group.items() if key not in {"params", "matrix_params"}}
        for group in optimizer.param_groups
    ]
    return copy_of([[p for _, p in named], states, groups])


def huge_rate(optimizer: Optimizer, named: Named) -> None:
    optimizer.param_groups[0]["lr"] = 3e38


def huge_matrix_step(optimizer: Optimizer, named: Named) -> None:
    """The direction is finite, and the weight would not be."""
    named[-1][1].data.fill_(3e38).sub_(random_tensor((4, 3), 5, torch.float32))
    named[-1][1].grad = -torch.full((4, 3), 3e38)


def huge_bias_step(optimizer: Optimizer, named: Named) -> None:
    named[1][1].data.fill_(3.4e38)
    named[1][1].grad = torch.full((4,), -3e38)
    optimizer.param_groups[0]["lr"] = 1.0


def nan_in_bias_gradient(optimizer: Optimizer, named: Named) -> None:
    assert named[1][1].grad is not None
    named[1][1].grad[2] = NAN


def inf_in_bias(optimizer: Optimizer, named: Named) -> None:
    named[1][1].data[2] = INF


def nan_in_momentum(optimizer: Optimizer, named: Named) -> None:
    state = optimizer.state[named[-1][1]]
    key = next(key for key in ("momentum_buffer", "layers_momentum_2", "exp_avg") if key in state)
    state[key].view(-1)[0] = NAN


SPOILS: dict[str, Spoil] = {
    spoil.__name__: spoil
    for spoil in (huge_rate, huge_bias_step, nan_in_bias_gradient, inf_in_bias, nan_in_momentum)
}
OPTIONS: dict[str, dict[str, Any]] = {
    "raw": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    "unit": {"momentum": 0.9, "step_scale": "unit"},
    "rms": {"momentum": 0.9, "step_scale": "rms"},
    "tracked": {"momentum": 0.9, "solver": "tracked"},
    "layers": {"momentum": 0.9, "solver": "layers"},
    "origin": {"momentum": 0.9, "origin": "init"},
    "infinite depth": {"momentum": 0.9, "depth": INF},
}


def refused(optimizer: Optimizer, named: Named, error: type[Exception], message: str) -> None:
    """A step is refused and leaves everything, p.grad too."""
    before, grads = snapshot(optimizer, named), [p.grad for _, p in named]
    with pytest.raises(error, match=message):
        optimizer.step()
    assert_bitwise(snapshot(optimizer, named), before)
    assert all(p.grad is grad for (_, p), grad in zip(named, grads, strict=True))


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_step_that_would_not_be_finite_is_refused_whole(
    options: dict[str, Any], spoil: Spoil
) -> None:
    named = parameters()
    optimizer = EndToEndSGD(named, **{"lr": 0.01, "depth": 3, **options})
    optimizer.step()
    spoil(optimizer, named)
    refused(optimizer, named, FloatingPointError, "^(first|bias|last): expected")


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("base", [SGD, Adam])
def test_a_step_of_another_optimizer_is_refused_whole(
    base: type[Optimizer], on: Any, spoil: Spoil
) -> None:
    named = parameters()
    options = {"momentum": 0.9} if base is SGD else {}
    optimizer = with_depth(base(named, lr=0.01, **options), 3, on=on, step_scale="raw")  # type: ignore[arg-type]
    optimizer.step()
    spoil(optimizer, named)
    # Adam itself finds out that no float32 holds such a rate
    errors: Any = (FloatingPointError, RuntimeError)
    refused(optimizer, named, errors, r"^(first|bias|last): expected|without overflow")


@pytest.mark.parametrize("on", ["gradient", "update"])
def test_another_optimizer_that_raises_halfway_is_undone(on: Any) -> None:
    named = parameters()
    optimizer = with_depth(SGD(named, lr=0.01, momentum=0.9), 3, on=on, step_scale="raw")
    optimizer.step()
    optimizer.state[named[-1][1]]["momentum_buffer"] = torch.ones(2, 2)
    refused(optimizer, named, RuntimeError, "size of tensor")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_weight_that_leaves_the_range_of_its_dtype(dtype: torch.dtype, momentum: float) -> None:
    largest = torch.finfo(dtype).max
    weight = nn.Parameter(((largest / 2) ** 0.25 * torch.eye(2)).to(dtype))
    # at depth 2, P_W(G) = 2 w G here: a quarter of the range
    weight.grad = torch.full_like(weight, -largest / 8 / weight[0, 0].item())
    optimizer = EndToEndSGD([("weight", weight)], lr=8.0, depth=2, momentum=momentum)
    refused(optimizer, [("weight", weight)], FloatingPointError, "^weight: expected a finite")


def test_half_precision_of_the_report() -> None:
    weight = nn.Parameter((60 + torch.eye(2)).half())
    weight.grad = torch.full_like(weight, 500.0)
    optimizer = EndToEndSGD([("weight", weight)], lr=0.1, depth=3)
    refused(optimizer, [("weight", weight)], FloatingPointError, "^weight: .*finite new weight")


def test_large_numbers_that_stay_in_range_still_move() -> None:
    weight = nn.Parameter(torch.diag(torch.tensor([6e4, 5e4])).half())
    weight.grad = torch.full_like(weight, 1e-2)
    bias = nn.Parameter(torch.full((2,), 6e4).half())
    bias.grad = torch.full_like(bias, 3e3)
    before = weight.detach().clone()
    EndToEndSGD([weight, bias], lr=1.0, depth=1.5, momentum=0.5).step()
    assert not torch.equal(weight.detach(), before)
    assert torch.equal(bias.detach(), torch.full((2,), 57e3).half())


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.parametrize("options", [OPTIONS["raw"], OPTIONS["nesterov"], OPTIONS["unit"]])
def test_on_a_device_the_flag_masks_the_step(
    options: dict[str, Any], spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    named = parameters()
    optimizer = EndToEndSGD(named, **{"lr": 0.01, "depth": 3, **options})
    optimizer.step()
    optimizer.state_dict()
    spoil(optimizer, named)
    before = copy_of([p for _, p in named])
    optimizer.step()
    assert_bitwise(copy_of([p for _, p in named]), before)
    with pytest.raises(FloatingPointError, match=r"^(first|bias|last): expected"):
        optimizer.step()


@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_on_a_device_another_optimizer_is_undone_too(
    on: Any, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    named = parameters()
    optimizer = with_depth(SGD(named, lr=0.01, momentum=0.9), 3, on=on, step_scale="raw")
    optimizer.step()
    spoil(optimizer, named)
    refused(optimizer, named, FloatingPointError, "^(first|bias|last): expected")


def test_a_mean_of_rms_that_overflows_does_not_stop_all_later_steps() -> None:
    named = parameters()[:1]
    optimizer = EndToEndSGD(named, lr=0.01, depth=3, step_scale="rms")
    optimizer.step()
    named[0][1].grad = torch.full((3, 4), 1e25)
    refused(optimizer, named, FloatingPointError, "^group 0: expected a finite mean")


def test_a_nan_at_the_origin_is_refused() -> None:
    named = parameters()
    named[0][1].data[0, 0] = NAN
    optimizer = EndToEndSGD(named, lr=0.01, depth=3, origin="init")
    refused(optimizer, named, FloatingPointError, "^first: expected a finite weight")


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_loss_that_tells_nothing_is_refused(loss: float) -> None:
    named = [parameters()[0]]
    optimizer = EndToEndSGD(named, depth=3, step_scale="auto")
    before = snapshot(optimizer, named)
    with pytest.raises(FloatingPointError, match=r"^loss: expected a finite number"):
        optimizer.step(lambda: loss)
    assert_bitwise(snapshot(optimizer, named), before)
    optimizer.step(lambda: 1.0)
    before = snapshot(optimizer, named)
    with pytest.raises(FloatingPointError, match=r"^loss: expected a finite number"):
        optimizer.step(lambda: NAN)
    assert_bitwise(snapshot(optimizer, named), before)


def test_a_sparse_gradient_that_torch_refuses_moves_no_plain_parameter() -> None:
    deep, plain, table = (nn.Parameter(random_tensor((3, 2), seed)) for seed in range(3))
    deep.grad, plain.grad = torch.ones_like(deep), torch.ones_like(plain)
    table.grad = torch.sparse_coo_tensor(
        torch.tensor([[0], [0]]), torch.ones(1).double(), (3, 2), check_invariants=True
    )
    optimizer = EndToEndSGD(
        [
            {"params": [("deep", deep)], "depth": 2},
            {"params": [("plain", plain), ("table", table)], "depth": 1, "weight_decay": 0.1},
        ]
    )
    before = copy_of([deep, plain, table])
    with pytest.raises(RuntimeError, match=r"^table: expected a dense gradient with weight_decay"):
        optimizer.step()
    assert_bitwise(copy_of([deep, plain, table]), before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", NAN),
        ("lr", INF),
        ("lr", -0.1),
        ("lr", torch.tensor(NAN)),
        ("momentum", NAN),
        ("momentum", -0.5),
        ("weight_decay", NAN),
        ("weight_decay", -0.1),
        ("dampening", NAN),
        ("cap", NAN),
        ("origin_scale", -1.0),
    ],
    ids=str,
)
def test_an_option_set_live_to_what_it_cannot_be(option: str, value: Any) -> None:
    named = parameters()
    optimizer = EndToEndSGD(named, lr=0.01, depth=3)
    optimizer.step()
    optimizer.param_groups[0][option] = value
    before = copy_of([p for _, p in named])
    with pytest.raises(ValueError, match=f"^{option}: expected"):
        optimizer.step()
    assert_bitwise(copy_of([p for _, p in named]), before)


@pytest.mark.parametrize("after", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stepped", [False, True])
def test_momentum_follows_the_dtype_of_the_model(after: torch.dtype, stepped: bool) -> None:
    model, twin = nn.Linear(4, 3), nn.Linear(4, 3)
    twin.load_state_dict(model.state_dict())
    ours = EndToEndSGD(model.parameters(), lr=0.1, momentum=0.9, depth=1)
    theirs = SGD(twin.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        for module in (model, twin):
            for seed, p in enumerate(module.parameters()):
                p.grad = random_tensor(tuple(p.shape), seed, p.dtype)
        ours.step()
        theirs.step()

    if stepped:
        step()
    for module in (model, twin):
        module.to(after)
    for _ in range(3):
        step()
    assert {state["momentum_buffer"].dtype for state in ours.state.values()} == {after}
    if not stepped:  # torch makes its momenta at the first step
        assert_bitwise([*model.parameters()], [*twin.parameters()])


@pytest.mark.parametrize(
    "options",
    [{"solver": "tracked"}, {"solver": "layers"}, {"origin": "init"}, {"step_scale": "auto"}],
    ids=str,
)
@pytest.mark.parametrize("stepped", [0, 3])
def test_every_state_follows_the_dtype_of_the_model(options: dict[str, Any], stepped: int) -> None:
    weight, twin = (nn.Parameter(random_tensor((5, 4), 0, torch.float32)) for _ in range(2))
    if "step_scale" not in options:
        options = {**options, "momentum": 0.5}
    make = dict(lr=0.01, depth=3, **options)
    ours, theirs = EndToEndSGD([weight], **make), EndToEndSGD([twin], **make)
    for step in range(stepped + 4):
        if step == stepped:
            weight.data = weight.data.double()
        for p in (weight, twin):
            p.grad = random_tensor((5, 4), step, p.dtype)
        ours.step()
        theirs.step()
    kinds = {v.dtype for v in ours.state[weight].values() if isinstance(v, Tensor) and v.ndim}
    assert kinds == {torch.float64}
    if stepped or "origin" not in options:  # else the start was drawn in another precision
        torch.testing.assert_close(weight.detach().float(), twin.detach(), rtol=1e-4, atol=1e-5)
    if "layers_refactored" in ours.state[weight]:
        assert ours.state[weight]["layers_refactored"] == 0


@pytest.mark.parametrize("on", ["gradient", "update"])
def test_matrices_are_known_by_parameter_and_not_by_place(on: Any) -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.Embedding(5, 4), nn.Linear(3, 2), nn.LSTM(3, 2)
    )
    optimizer = with_depth(SGD(model.parameters(), lr=0.1), 3, on=on, model=model, step_scale="raw")
    group = optimizer.param_groups[0]
    shown = {route.shape: route.matrix for route in routing(optimizer)}
    dropped = model[0].weight
    extra = nn.Parameter(torch.ones(3, 3))
    group["params"] = [extra, *(p for p in reversed(group["params"]) if p is not dropped)]
    for p in group["params"]:
        p.grad = torch.ones_like(p)
    for _ in range(2):
        after = {route.shape: route.matrix for route in routing(optimizer)}
        assert after.pop((3, 3)) == "-"
        assert after == {shape: own for shape, own in shown.items() if shape != (8, 2, 3, 3)}
        optimizer.step()
        saved = optimizer.state_dict()
        assert len(saved["param_groups"][0]["matrix_counts"]) == len(group["params"])
        assert "matrix_params" not in saved["param_groups"][0]
        optimizer.load_state_dict(saved)
        group = optimizer.param_groups[0]
