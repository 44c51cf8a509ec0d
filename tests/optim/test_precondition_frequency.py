"""W is decomposed every so many steps; between, P acts in that basis."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import (
    assert_bitwise,
    copy_of,
    everything,
    random_tensor,
    small_network,
    through_a_file,
    train,
)
from tests.optim.truth import preconditioned_term_by_term
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.testing import assert_close

import virtualdepth as vd
from virtualdepth.maths import preconditioned_gradient, unit_scale

Make = Callable[..., Optimizer]


def sgd(params: Any, **options: Any) -> Optimizer:
    return vd.EndToEndSGD(params, **{"lr": 0.02, "depth": 3, **options})


def given_depth(on: str) -> Make:
    def make(params: Any, **options: Any) -> Optimizer:
        return vd.with_depth(
            torch.optim.SGD(params, lr=0.02, momentum=0.9),
            **{"depth": 3, "on": on, "step_scale": "raw", **options},
        )

    return make


MAKE: dict[str, Make] = {
    "EndToEndSGD": sgd,
    "on gradient": given_depth("gradient"),
    "on update": given_depth("update"),
}
by_every_way = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def take(optimizer: Optimizer, params: list[nn.Parameter], steps: range) -> None:
    for number in steps:
        for index, p in enumerate(params):
            p.grad = random_tensor(tuple(p.shape), 100 * number + index, p.dtype)
        optimizer.step()


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(random_tensor(shape, i, dtype)) for i, shape in enumerate(shapes)]


def decomposed(optimizer: Optimizer) -> list[int]:
    states = optimizer.state.values()
    return [state["basis_decomposed"] for state in states if "basis_decomposed" in state]


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_steps_by_hand(shape: tuple[int, int], depth: int) -> None:
    """P_{W'}(G), where W' is W at the last of the steps 0, 3, 6, ...; decay and momentum of W."""
    (p,) = parameters(shape)
    weight, velocity = p.detach().clone(), torch.zeros(shape, dtype=p.dtype)
    optimizer = sgd([p], depth=depth, momentum=0.9, weight_decay=0.01, precondition_frequency=3)
    then = weight
    for number in range(8):
        if number % 3 == 0:
            then = weight
        pair = (then.numpy(), random_tensor(shape, 100 * number).numpy())
        move = torch.tensor(preconditioned_term_by_term(*pair, depth))
        move = move + depth * 0.01 * weight
        velocity = move if number == 0 else 0.9 * velocity + move
        weight = weight - 0.02 * velocity
        take(optimizer, [p], range(number, number + 1))
        assert_close(p.detach(), weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"step_scale": "unit"},
        {"step_scale": "unit", "imbalance": 0.3},
        {"depth": 2.5, "rtol": 0.2},
        {"structure": "circulant", "step_scale": "unit"},
        {"structure": "circulant", "imbalance": 0.1},
    ],
    ids=str,
)
def test_the_step_scale_and_the_structure_are_those_of_the_basis(options: dict[str, Any]) -> None:
    shape = (3, 2, 4)
    (p,) = parameters(shape)
    group = {"depth": 3, "rtol": None, "imbalance": 0.0, "structure": "matrix", **options}
    optimizer = sgd([p], **{**group, "precondition_frequency": 4})
    weight = then = p.detach().clone()
    for number in range(6):
        then = weight if number % 4 == 0 else then
        grad = random_tensor(shape, 100 * number)
        blocks = [
            each if "circ" in group["structure"] else each.flatten(1) for each in (then, grad)
        ]
        found = preconditioned_gradient(
            *blocks, group["depth"], group["rtol"], group["imbalance"], group["structure"]
        )
        scale: Any = 1.0
        if "step_scale" in options:
            scale = unit_scale(found, group["depth"], 0.02, 0.05, group["imbalance"])
        weight = weight - 0.02 * (scale * found.direction).reshape(shape)
        take(optimizer, [p], range(number, number + 1))
        assert_close(p.detach(), weight, rtol=0, atol=1e-12)


def test_rms_takes_the_same_direction() -> None:
    """<G, P_{W'}(G)> is its mean, so the first step is 1 / (||.|| + 1e-4), as ever."""
    (p,), (q,) = parameters((4, 5)), parameters((4, 5))
    kept, exact = sgd([p], step_scale="rms", precondition_frequency=2), sgd([q], step_scale="rms")
    for number in range(2):
        before = p.detach().clone()
        take(kept, [p], range(number, number + 1))
        if number == 0:
            then = before
            take(exact, [q], range(1))
            assert_close(p, q, rtol=0, atol=1e-14)
    grads = [random_tensor((4, 5), 100 * number) for number in range(2)]
    steps = [vd.precondition(then, grad, 3) for grad in grads]
    squares = [(grad * step).sum() for grad, step in zip(grads, steps, strict=True)]
    mean = (0.99 * 0.01 * squares[0] + 0.01 * squares[1]) / (1 - 0.99**2)
    assert_close(before - p.detach(), 0.02 * steps[1] / (mean.sqrt() + 1e-4), rtol=0, atol=1e-12)


@by_every_way
def test_at_one_it_is_what_it_was(make: Make) -> None:
    params, twins = parameters((4, 5), (3, 2, 2)), parameters((4, 5), (3, 2, 2))
    first, second = make(params, precondition_frequency=1), make(twins)
    take(first, params, range(3))
    take(second, twins, range(3))
    assert_bitwise(everything(params, first), everything(twins, second))


@by_every_way
def test_matrices_take_turns(make: Make) -> None:
    """Each once in a round, and no step has more than its share and one matrix more."""
    shapes = [(4, 4), (8, 8), (4, 12), (6, 6), (8, 8), (4, 4), (12, 12), (5, 4), (8, 4)]
    params = parameters(*shapes)
    optimizer = make(params, precondition_frequency=5)
    for p in params:
        optimizer.add_param_group({"params": [nn.Parameter(p.detach().clone())]})  # one more each
        params = [*params, optimizer.param_groups[-1]["params"][0]]
    work = torch.tensor([float(min(p.shape) ** 2 * max(p.shape)) for p in params])
    take(optimizer, params, range(1))
    assert decomposed(optimizer) == [1] * len(params)
    rounds = []
    for number in range(1, 11):
        before = torch.tensor(decomposed(optimizer))
        take(optimizer, params, range(number, number + 1))
        rounds.append(torch.tensor(decomposed(optimizer)) - before)
    for start in (0, 5):
        assert torch.equal(sum(rounds[start : start + 5]), torch.ones(len(params), dtype=int))
    done = torch.stack([(each * work).sum() for each in rounds])
    assert (done <= work.sum() / 5 + work.max()).all()
    assert (done > 0).all()


@pytest.mark.parametrize("frequency", [2, 7])
def test_a_new_frequency_holds_from_the_next_step_on(frequency: int) -> None:
    params = parameters((4, 4))
    optimizer = sgd(params, precondition_frequency=4)
    take(optimizer, params, range(5))
    assert decomposed(optimizer) == [2]  # at the steps 0 and 4
    optimizer.param_groups[0]["precondition_frequency"] = frequency
    take(optimizer, params, range(5, 15))
    assert decomposed(optimizer) == [2 + len(range(5, 15)[(-5) % frequency :: frequency])]


@by_every_way
def test_it_can_be_switched_on_and_off(make: Make) -> None:
    params, twins = parameters((4, 5)), parameters((4, 5))
    optimizer, exact = make(params), make(twins)
    group = optimizer.param_groups[0]
    for number, frequency in enumerate([1, 3, 1, 3, 1]):  # alone each step decomposes
        group["precondition_frequency"] = frequency
        take(optimizer, params, range(number, number + 1))
        take(exact, twins, range(number, number + 1))
        assert_close(params[0], twins[0], rtol=0, atol=1e-12)


def by_load(model: nn.Module, optimizer: Optimizer) -> None:
    model.load_state_dict({key: 1.1 * value for key, value in model.state_dict().items()})


def by_writing(model: nn.Module, optimizer: Optimizer) -> None:
    with torch.no_grad():
        model.weight[1, 2] += 0.5  # type: ignore[operator]


def past_the_count(model: nn.Module, optimizer: Optimizer) -> None:
    model.weight.data[1] *= 0.5  # type: ignore[operator,union-attr]


def by_new_data(model: nn.Module, optimizer: Optimizer) -> None:
    model.weight.data = 1.2 * model.weight.data  # type: ignore[operator,union-attr]


def by_depth(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.param_groups[0]["depth"] = 2


def by_precision(model: nn.Module, optimizer: Optimizer) -> None:
    model.float()
    model.double()


CHANGES = [by_load, by_writing, past_the_count, by_new_data, by_depth, by_precision]


@by_every_way
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_from_outside_is_seen_at_once(
    make: Make, change: Callable[[nn.Module, Optimizer], None]
) -> None:
    model = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    optimizer = make(model.parameters(), precondition_frequency=100)
    take(optimizer, [model.weight], range(3))
    assert decomposed(optimizer) == [1]
    change(model, optimizer)
    twin = copy.deepcopy(model)
    exact = make(twin.parameters())
    exact.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    exact.param_groups[0]["precondition_frequency"] = 1
    for each, p in ((optimizer, model.weight), (exact, twin.weight)):
        take(each, [p], range(3, 4))
    assert_close(model.weight, twin.weight, rtol=0, atol=1e-12)
    assert decomposed(optimizer) == [2]
    take(optimizer, [model.weight], range(4, 6))
    assert decomposed(optimizer) == [2]  # and then goes on in that basis


@by_every_way
def test_a_step_of_its_own_is_no_change(make: Make) -> None:
    params = parameters((4, 5), (6, 3), (3, 3), dtype=torch.float32)
    optimizer = make(params, precondition_frequency=1000)
    take(optimizer, params, range(20))
    assert decomposed(optimizer) == [1, 1, 1]


@by_every_way
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_it_resumes_to_the_last_bit_in_every_precision(make: Make, dtype: torch.dtype) -> None:
    shapes = [(4, 5), (3, 2, 2), (4,)]
    options = {"precondition_frequency": 4, "depth": 2}
    params = parameters(*shapes, dtype=dtype)
    optimizer = make(params, **options)
    take(optimizer, params, range(6))
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = make(twins, **options)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    states = [optimizer.state[params[0]], resumed.state[twins[0]]]
    assert [state["basis_left"].dtype for state in states] == [torch.float32] * 2
    for number in range(6, 12):
        for each, moved in ((optimizer, params), (resumed, twins)):
            take(each, moved, range(number, number + 1))
        assert_bitwise(everything(twins, resumed), everything(params, optimizer))


def test_half_precision_is_the_float32_step_rounded_once() -> None:
    params = parameters((4, 5), dtype=torch.bfloat16)
    twins = [nn.Parameter(p.detach().float()) for p in params]
    make = {"precondition_frequency": 5}
    first, second = sgd(params, **make), sgd(twins, **make)
    for number in range(2):  # the second in the basis of the first, of both the same
        take(first, params, range(number, number + 1))
        twins[0].grad = params[0].grad.float()
        second.step()
        assert_bitwise(params[0].detach(), twins[0].detach().bfloat16())
        if number == 0:
            twins[0].data.copy_(params[0].data)
            for key in ("basis_image",):
                second.state[twins[0]][key] = first.state[params[0]][key].clone()


@by_every_way
def test_a_step_that_fails_leaves_the_basis(make: Make) -> None:
    params = parameters((4, 5), (3, 3))
    optimizer = make(params, precondition_frequency=3)
    take(optimizer, params, range(2))
    before = copy_of(everything(params, optimizer))
    for p in params:
        p.grad = random_tensor(tuple(p.shape), 7)
    params[1].grad[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="gradient"):
        optimizer.step()
    assert_bitwise(everything(params, optimizer), before)
    take(optimizer, params, range(2, 4))
    twins = parameters((4, 5), (3, 3))
    whole = make(twins, precondition_frequency=3)
    take(whole, twins, range(4))
    assert_bitwise(everything(params, optimizer), everything(twins, whole))


def test_an_idle_step_changes_nothing() -> None:
    params = parameters((4, 5))
    optimizer = sgd(params, precondition_frequency=3)
    for rate in (0.0, 0.02):
        optimizer.param_groups[0]["lr"] = rate
        before = copy_of(everything(params, optimizer))
        take(optimizer, params, range(2))
        if rate == 0:
            assert_bitwise(everything(params, optimizer), before)
    assert decomposed(optimizer) == [1]


@pytest.mark.parametrize(
    ("structure", "shape"),
    [("rows", (4, 5)), ("columns", (4, 5)), ("diagonal", (4, 5)), ("circulant", (4, 5))],
)
def test_where_nothing_is_decomposed_it_changes_nothing(
    structure: str, shape: tuple[int, ...]
) -> None:
    params, twins = parameters(shape, (1, 5)), parameters(shape, (1, 5))
    options = {"structure": structure, "depth": 2.5}
    first, second = sgd(params, precondition_frequency=5, **options), sgd(twins, **options)
    take(first, params, range(4))
    take(second, twins, range(4))
    assert_bitwise(everything(params, first)["params"], everything(twins, second)["params"])
    assert not any(first.state.values())
    assert [route.precondition_frequency for route in vd.routing(first)] == [1, 1]


def test_with_an_origin_it_is_the_basis_of_the_change() -> None:
    shape, start = (4, 5), random_tensor((4, 5), 9)
    p = nn.Parameter(start.clone())
    optimizer = sgd([p], origin="init", imbalance=0.2, precondition_frequency=2)
    change = then = torch.zeros(shape, dtype=p.dtype)
    for number in range(5):
        then = change if number % 2 == 0 else then
        grad = random_tensor(shape, 100 * number)
        change = change - 0.02 * vd.precondition(then, grad, 3, imbalance=0.2)
        take(optimizer, [p], range(number, number + 1))
        assert_close(p.detach() - start, change, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"solver": "layers"},
            "solver: expected 'auto' or 'svd' with precondition_frequency=2 but got 'layers'",
        ),
        ({"solver": "tracked"}, "solver: expected .* with precondition_frequency=2 but got"),
        ({"step_scale": "auto"}, "step_scale: expected 'raw', 'unit' or 'rms' with precondition"),
    ],
    ids=str,
)
def test_what_it_does_not_go_with_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sgd(parameters((3, 3)), precondition_frequency=2, **options)
    optimizer = sgd(parameters((3, 3)), **options)
    take(optimizer, optimizer.param_groups[0]["params"], range(1))
    optimizer.param_groups[0]["precondition_frequency"] = 2
    with pytest.raises(ValueError, match=message):
        take(optimizer, optimizer.param_groups[0]["params"], range(1))


@by_every_way
@pytest.mark.parametrize("value", [0, -1, 2.5, "10", None])
def test_another_value_is_refused(make: Make, value: Any) -> None:
    with pytest.raises(ValueError, match="precondition_frequency: expected an integer >= 1"):
        make(parameters((3, 3)), precondition_frequency=value)


def test_a_basis_of_another_matrix_is_not_loaded() -> None:
    params = parameters((4, 5))
    optimizer = sgd(params, precondition_frequency=2)
    take(optimizer, params, range(1))
    state = optimizer.state_dict()
    for key, value in (
        ("basis_left", torch.zeros(3, 3, dtype=torch.float64)),
        ("basis_right", torch.zeros(3, 5, dtype=torch.float64)),
    ):
        spoilt = copy.deepcopy(state)
        spoilt["state"][0][key] = value
        with pytest.raises(ValueError, match="expected a singular basis of shapes"):
            optimizer.load_state_dict(spoilt)
    spoilt = copy.deepcopy(state)
    del spoilt["state"][0]["basis_values"]
    with pytest.raises(ValueError, match="expected a singular basis of shapes"):
        optimizer.load_state_dict(spoilt)


@pytest.mark.parametrize("options", [{"structure": "circulant"}, {"blocks": 2}], ids=str)
def test_a_basis_of_the_blocks_before_a_change_is_loaded(options: dict[str, Any]) -> None:
    """A checkpoint between the change and the next step, which decomposes W anew."""
    params, others = parameters((4, 4, 3)), parameters((4, 4, 3))
    optimizer, other = (sgd(each, precondition_frequency=3) for each in (params, others))
    take(optimizer, params, range(2))
    optimizer.param_groups[0].update(options)
    others[0].data.copy_(params[0].data)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take(optimizer, params, range(2, 6))
    take(other, others, range(2, 6))
    assert torch.equal(params[0], others[0])
    assert other.state[others[0]]["basis_decomposed"] == 2  # at once, and three steps later


def test_the_table_says_how_often() -> None:
    params = parameters((4, 5), (3,))
    optimizer = sgd(params, precondition_frequency=2)
    assert vd.routing(optimizer).routes[0].state_bytes == 8 * (16 + 4 + 20 + 4)
    take(optimizer, params, range(4))
    params[0].data.mul_(1.1)
    take(optimizer, params, range(4, 6))
    matrix, bias = vd.routing(optimizer)
    assert (matrix.solver, matrix.precondition_frequency) == ("svd", 2)
    assert (bias.solver, bias.precondition_frequency) == ("plain", 1)
    assert matrix.note == (
        "decomposed at 3 of 6 steps, 1 times because the weight was changed from outside"
    )
    assert matrix.state_bytes == 8 * (16 + 4 + 20 + 4 + 16)  # and the kernel
    assert "precondition frequency" in str(vd.routing(optimizer))


@by_every_way
def test_a_model_trains(make: Make) -> None:
    model = small_network()
    optimizer = make(model.named_parameters(), precondition_frequency=4)
    train(model, optimizer, 12)
    assert decomposed(optimizer)
    assert all(
        isinstance(value, int | float | Tensor)
        for s in optimizer.state.values()
        for value in s.values()
    )
