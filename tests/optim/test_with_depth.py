"""What is particular to giving depth to an optimizer that exists."""

import copy
import pickle
from functools import wraps
from typing import Any

import pytest
import pytorch_optimizer
import torch
from tests.contract.tools import assert_bitwise, copy_of, loss_of, small_network, train
from tests.optim.truth import preconditioned
from torch import Tensor, nn
from torch.optim import lr_scheduler

import virtualdepth as vd

MATRICES = {
    "Muon": lambda params: torch.optim.Muon(params, lr=0.02, weight_decay=0),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "AdamW, fused": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0, fused=True),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=0.01),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.01),
    "Lion": lambda params: pytorch_optimizer.Lion(params, lr=0.01),
    "AdaBelief": lambda params: pytorch_optimizer.AdaBelief(params, lr=0.01),
}


def weight(seed: int = 1) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(5, 3, generator=generator, dtype=torch.float64))


def gradient(step: int) -> Tensor:
    return weight(100 + step).detach()


def truth(matrix: Tensor, grad: Tensor, depth: float) -> Tensor:
    return torch.tensor(preconditioned(matrix.detach().numpy(), grad.numpy(), depth))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.detach(), expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("depth", [1, 2, 3.5, float("inf")])
def test_on_gradient_it_sees_the_preconditioned_gradient(make: Any, depth: float) -> None:
    """The bare optimizer, fed by hand, goes the same way."""
    ours, theirs = weight(), weight()
    optimizer, bare = (
        vd.with_depth(make([ours]), depth, step_scale="raw", on="gradient"),
        make([theirs]),
    )
    for step in range(4):
        ours.grad = gradient(step)
        theirs.grad = truth(theirs, gradient(step), depth)
        optimizer.step()
        bare.step()
        close(ours, theirs)
        assert_bitwise(ours.grad, gradient(step))


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("depth", [1, 2, 3.5])
def test_on_update_it_moves_by_the_preconditioned_update(make: Any, depth: float) -> None:
    """W_old + P_{W_old}(W_new - W_old), from the bare optimizer's own W_new."""
    ours, theirs = weight(), weight()
    optimizer, bare = (
        vd.with_depth(make([ours]), depth, on="update", step_scale="raw"),
        make([theirs]),
    )
    for step in range(4):
        before = theirs.detach().clone()
        ours.grad = theirs.grad = gradient(step)
        optimizer.step()
        bare.step()
        with torch.no_grad():
            theirs.copy_(before + truth(before, theirs.detach() - before, depth))
        close(ours, theirs)


def test_over_sgd_it_is_end_to_end_sgd() -> None:
    model, twin = small_network(), small_network()
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True}
    train(
        model,
        vd.with_depth(
            torch.optim.SGD(model.parameters(), **options), 3, step_scale="raw", on="gradient"
        ),
    )
    train(twin, vd.EndToEndSGD(twin.parameters(), depth=3, **options))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        close(p, q)


def test_it_is_the_same_object_of_one_class() -> None:
    first, second = (torch.optim.Adam([weight()]) for _ in range(2))
    assert vd.with_depth(first, 2, step_scale="raw", on="gradient") is first
    vd.with_depth(second, 3, step_scale="raw", on="gradient")
    assert type(first) is type(second)
    assert isinstance(first, torch.optim.Adam)
    assert type(first).__name__ == "AdamWithDepth"
    assert type(
        vd.with_depth(torch.optim.Adam([weight()]), 2, on="update", step_scale="raw")
    ) is not type(first)
    assert type(torch.optim.Adam([weight()])) is torch.optim.Adam


class Failing(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        super().step()
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("on", ["gradient", "update"])
def test_a_step_that_raises_leaves_gradients_and_under_update_weights(on: str) -> None:
    model = small_network()
    optimizer = vd.with_depth(Failing(model.parameters(), lr=0.1), 3, on=on, step_scale="raw")
    loss_of(model, 0).backward()
    grads = [p.grad for p in model.parameters()]
    before, weights = copy_of(grads), copy_of([*model.parameters()])
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert_bitwise(grads, before)
    if on == "update":
        assert_bitwise([*model.parameters()], weights)


@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("bad", ["gradient", "weight"])
def test_what_is_not_finite_changes_nothing(on: str, bad: str) -> None:
    model = small_network()
    optimizer = vd.with_depth(
        torch.optim.Adam(model.named_parameters()), 3, on=on, step_scale="raw"
    )
    train(model, optimizer)
    if bad == "weight":
        with torch.no_grad():
            model[2].weight[0, 0] = torch.nan
    else:
        model[2].weight.grad[0, 0] = torch.inf
    before = copy_of([[*model.parameters()], optimizer.state_dict()])
    with pytest.raises(FloatingPointError, match=rf"2\.weight: expected a finite {bad}"):
        optimizer.step()
    assert_bitwise([[*model.parameters()], optimizer.state_dict()], before)


def test_an_overflow_of_half_precision_changes_nothing() -> None:
    p = nn.Parameter(torch.full((3, 3), 200.0, dtype=torch.float16))
    optimizer = vd.with_depth(torch.optim.SGD([p], lr=1e-6), 3, step_scale="raw", on="gradient")
    p.grad = torch.full((3, 3), 100.0, dtype=torch.float16)
    with pytest.raises(FloatingPointError, match="update"):
        optimizer.step()
    assert torch.equal(p, torch.full((3, 3), 200.0, dtype=torch.float16))


@pytest.mark.parametrize("on", ["gradient", "update"])
@pytest.mark.parametrize("attached", ["before", "after"])
def test_schedulers_attached_before_or_after(on: str, attached: str) -> None:
    """The naive way keeps the step that the scheduler had patched, and loses depth."""
    model, twin = small_network(), small_network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if attached == "before":
        scheduler = lr_scheduler.StepLR(optimizer, 2)
    vd.with_depth(optimizer, 3, on=on, step_scale="raw")
    if attached == "after":
        scheduler = lr_scheduler.StepLR(optimizer, 2)
    by_hand = vd.with_depth(
        torch.optim.AdamW(twin.parameters(), lr=0.01), 3, on=on, step_scale="raw"
    )
    for batch in range(5):
        train(model, optimizer, steps=1, start=batch)
        scheduler.step()  # warns, which is an error here, unless it saw the step
        by_hand.param_groups[0]["lr"] = 0.01 * 0.1 ** (batch // 2)
        train(twin, by_hand, steps=1, start=batch)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            close(p, q)


def test_a_schedule_may_change_the_depth() -> None:
    p, q = weight(), weight()
    optimizer = vd.with_depth(torch.optim.SGD([p], lr=0.1), 1, step_scale="raw", on="gradient")
    for step, depth in enumerate((1, 2, 3, float("inf"), 1)):
        optimizer.param_groups[0]["depth"] = depth
        p.grad = gradient(step)
        optimizer.step()
        with torch.no_grad():
            q -= 0.1 * truth(q, gradient(step), depth)
        close(p, q)
    optimizer.param_groups[0]["depth"] = 0.5
    with pytest.raises(ValueError, match="depth"):
        optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("on", ["gradient", "update"])
def test_a_scaler_of_gradients_sees_unscaled_ones(fused: bool, on: str) -> None:
    model, twin = (small_network(dtype=torch.float32) for _ in range(2))
    optimizer, other = (
        vd.with_depth(
            torch.optim.SGD(one.parameters(), lr=0.1, fused=fused), 3, on=on, step_scale="raw"
        )
        for one in (model, twin)
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for batch in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
        train(twin, other, steps=1, start=batch)
    assert_bitwise([*model.parameters()], [*twin.parameters()])


def test_a_plain_checkpoint_keeps_depth() -> None:
    model = small_network()
    plain = torch.optim.Adam(model.parameters(), lr=0.5)
    train(model, plain)
    optimizer = vd.with_depth(
        torch.optim.Adam(model.parameters()),
        3,
        model=model,
        exclude="0",
        step_scale="unit",
        on="gradient",
    )
    optimizer.load_state_dict(plain.state_dict())
    group = optimizer.param_groups[0]
    assert (group["depth"], group["step_scale"], group["lr"]) == (3, "unit", 0.5)
    assert [route.depth for route in vd.routing(optimizer)] == [1, 1, 3, 1, 3, 1]
    # and the other way round
    plain.load_state_dict(optimizer.state_dict())
    train(model, plain)


def test_a_copy_of_a_scheduled_one_has_depth() -> None:
    model = small_network()
    optimizer = torch.optim.Adam(model.parameters())
    lr_scheduler.StepLR(optimizer, 2)
    vd.with_depth(optimizer, 3, step_scale="raw", on="gradient")
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(twin) is type(optimizer)
        assert twin.param_groups[0]["depth"] == 3


def test_added_groups_get_the_depth_unless_they_have_one() -> None:
    optimizer = vd.with_depth(torch.optim.SGD([weight()]), 3, step_scale="raw", on="gradient")
    optimizer.add_param_group({"params": [weight(2)]})
    optimizer.add_param_group({"params": [weight(3)], "depth": 2})
    assert [group["depth"] for group in optimizer.param_groups] == [3, 3, 2]
    with pytest.raises(TypeError, match="complex"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2) + 0j)]})
    assert len(optimizer.param_groups) == 3


def patched(how: str) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD([weight()])
    if how == "over a scheduler's":
        lr_scheduler.StepLR(optimizer, 2)
    step = optimizer.step

    @wraps(step)
    def foreign(*args: Any) -> Any:
        return step(*args)

    optimizer.step = foreign
    return optimizer


class Wrapper(torch.optim.Optimizer):
    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.optimizer = inner


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "twice": (
        lambda: vd.with_depth(torch.optim.SGD([weight()]), 2, step_scale="raw", on="gradient"),
        {},
        TypeError,
        "without",
    ),
    "ours": (lambda: vd.EndToEndSGD([weight()]), {}, TypeError, "without depth but got EndToEnd"),
    "LBFGS": (
        lambda: torch.optim.LBFGS([weight()]),
        {"on": "gradient"},
        TypeError,
        "LBFGS; use on='update'",
    ),
    "patched": (lambda: patched("bare"), {}, TypeError, "patched"),
    "patched over": (lambda: patched("over a scheduler's"), {}, TypeError, "patched"),
    "wrapper": (lambda: Wrapper(torch.optim.SGD([weight()])), {}, TypeError, "inside a wrapper"),
    "no optimizer": (lambda: nn.Linear(2, 2), {}, TypeError, "but got Linear"),
    "on": (lambda: torch.optim.SGD([weight()]), {"on": "weights"}, ValueError, "^on: .*update"),
    "scale": (
        lambda: torch.optim.SGD([weight()]),
        {"step_scale": "best"},
        ValueError,
        r"step_scale: expected one of \('raw', .* but got 'best'",
    ),
    "rms": (
        lambda: torch.optim.SGD([weight()]),
        {"on": "update", "step_scale": "rms"},
        ValueError,
        "rms",
    ),
    "cap": (lambda: torch.optim.SGD([weight()]), {"cap": 0}, ValueError, "^cap"),
    "sparse": (
        lambda: torch.optim.SGD([nn.Parameter(torch.eye(3).to_sparse())]),
        {},
        TypeError,
        "parameter 0 of group 0.*sparse",
    ),
}


@pytest.mark.parametrize(("make", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_and_left_as_it_was(
    make: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    optimizer = make()
    before = type(optimizer)
    with pytest.raises(error, match=message):
        vd.with_depth(optimizer, **{"depth": 3, **options})
    assert type(optimizer) is before


def test_lbfgs_on_update() -> None:
    model = small_network()
    optimizer = vd.with_depth(
        torch.optim.LBFGS(model.parameters(), max_iter=3), 2, on="update", step_scale="raw"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(4)]
    assert losses[-1] < losses[0]


def test_zeros_are_warned_of_once() -> None:
    p = nn.Parameter(torch.zeros(3, 3))
    optimizer = vd.with_depth(torch.optim.Adam([("head", p)]), 2, step_scale="raw", on="gradient")
    p.grad = torch.ones(3, 3)
    with pytest.warns(UserWarning, match="head: all weights are zero"):
        optimizer.step()
    optimizer.step()  # a second warning would be an error here


@pytest.mark.parametrize(
    ("options", "on", "message"),
    [
        ({"step_scale": "auto"}, "gradient", "step_scale.*auto"),
        ({"step_scale": "rms"}, "update", "step_scale.*rms"),
        ({"origin": "init"}, "gradient", "origin.*EndToEndSGD"),
    ],
)
def test_a_group_asks_for_what_depth_cannot_give(
    options: dict[str, Any], on: str, message: str
) -> None:
    """In its groups, in an added one, and in one changed live."""
    p = weight()
    p.grad = torch.ones_like(p)
    bad = torch.optim.SGD([{"params": [p], **options}], lr=0.1)
    with pytest.raises(ValueError, match=message):
        vd.with_depth(bad, 2, on=on, step_scale="raw")
    good = vd.with_depth(torch.optim.SGD([p], lr=0.1), 2, on=on, step_scale="raw")
    with pytest.raises(ValueError, match=message):
        good.add_param_group({"params": [weight()], **options})
    before = p.detach().clone()
    good.param_groups[0].update(options)
    with pytest.raises(ValueError, match=message):
        good.step()
    assert torch.equal(p, before)


def test_an_added_group_is_plain_where_parameters_were_chosen() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 2), "body": nn.Linear(3, 3)})
    optimizer = torch.optim.SGD(model["head"].parameters(), lr=0.1)
    vd.with_depth(optimizer, 3, model=model, include="head*", step_scale="raw", on="gradient")
    optimizer.add_param_group({"params": list(model["body"].parameters())})
    assert [route.depth for route in vd.routing(optimizer)] == [3, 1, 1, 1]


def test_a_step_takes_what_the_optimizers_own_takes() -> None:
    class Scaled(torch.optim.SGD):
        def step(self, closure: Any = None, *, scale: float = 1.0) -> Any:
            for group in self.param_groups:
                group["lr"] *= scale
            return super().step(closure)

    p = weight()
    p.grad = torch.ones_like(p)
    optimizer = vd.with_depth(Scaled([p], lr=0.1), 2, step_scale="raw", on="gradient")
    optimizer.step(scale=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.05
