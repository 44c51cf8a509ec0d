"""solver="tracked" in the optimizer: changes from outside, options, state, other groups."""

import warnings
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor, through_a_file
from tests.optim.test_tracked import SIZE, errors_of_a_run, literal, start
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.optim._finite_check import FiniteCheck


def in_place(p: Tensor) -> None:
    with torch.no_grad():
        p[0, 0] += 0.1


def by_data(p: Tensor) -> None:
    p.data.mul_(0.7)


def swapped(p: Tensor) -> None:
    p.data = random_tensor((SIZE, SIZE), 77)


@pytest.mark.parametrize("is_async", [False, True], ids=["cpu", "as on a device"])
@pytest.mark.parametrize("change", [in_place, by_data, swapped])
def test_a_change_from_outside_does_not_lead_it_astray(
    change: Any, is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: is_async))
    _, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 5, 1e-3, depth=3)
    change(p)
    errors = []
    for step in range(2):
        before, p.grad = p.detach().clone(), random_tensor((SIZE, SIZE), 99 + step)
        optimizer.step()
        exact = literal(before, p.grad, 3)
        errors.append(float(((before - p.detach()) / 1e-3 - exact).norm() / exact.norm()))
    # a device tells one step late
    assert errors[-1] < 1e-3
    assert is_async or errors[0] < 1e-3


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (6, 2), (3, 7)], ids=str)
def test_an_entry_of_few_rows_that_changes_is_noticed(shape: tuple[int, int]) -> None:
    """In float32: there rounding does not give away what W z cannot tell."""
    p = nn.Parameter(random_tensor(shape, 1, torch.float32))
    optimizer = vd.EndToEndSGD([p], lr=1e-4, depth=3, solver="tracked")
    for step in range(4):
        before, p.grad = p.detach().clone(), random_tensor(shape, 9 + step, torch.float32)
        optimizer.step()
        if step == 2:
            p.data[0, 0] += 0.01
    state, wide = optimizer.state[p], before if shape[0] <= shape[1] else before.mT
    torch.testing.assert_close(
        state["tracked_left"] @ state["tracked_rows"], wide, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("column", [0, 242, 996])
def test_a_column_that_is_pruned_is_noticed(column: int) -> None:
    p = nn.Parameter(random_tensor((SIZE, 1024), 1, torch.float32))
    optimizer = vd.EndToEndSGD([p], lr=1e-4, depth=2, solver="tracked")
    for step in range(4):
        before, p.grad = p.detach().clone(), random_tensor((SIZE, 1024), 9 + step, torch.float32)
        optimizer.step()
        if step == 1:
            p.data[:, column] = 0
    exact = literal(before.double(), p.grad.double(), 2)
    assert float(((before - p.detach()) / 1e-4 - exact).norm() / exact.norm()) < 2e-3


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"step_scale": "unit"},
        {"step_scale": "rms"},
        {"origin": "init"},
        {"maximize": True},
    ],
    ids=str,
)
def test_with_other_options_it_moves_as_the_exact_path(options: dict[str, Any]) -> None:
    ends = []
    for solver in ("tracked", "svd"):
        _, p, _ = errors_of_a_run(
            start("default", (SIZE, SIZE)), 30, 1e-3, depth=3, solver=solver, **options
        )
        ends.append(p.detach())
    moved = (ends[1] - start("default", (SIZE, SIZE))).norm()
    assert (ends[0] - ends[1]).norm() < 1e-3 * moved


@pytest.mark.parametrize("blocks", [2, 3])
def test_packed_blocks_are_followed_each(blocks: int) -> None:
    whole = torch.cat([start("default", (SIZE, SIZE)) for _ in range(blocks)])
    whole += 0.01 * random_tensor(tuple(whole.shape), 9)
    packed, apart = (
        nn.Parameter(whole.clone()),
        [nn.Parameter(w.clone()) for w in whole.chunk(blocks)],
    )
    one = vd.EndToEndSGD(
        [{"params": [packed], "blocks": blocks}], lr=1e-3, depth=3, solver="tracked"
    )
    other = vd.EndToEndSGD(apart, lr=1e-3, depth=3, solver="svd")
    for step in range(10):
        packed.grad = random_tensor(tuple(packed.shape), step)
        for p, grad in zip(apart, packed.grad.chunk(blocks), strict=True):
            p.grad = grad.clone()
        one.step()
        other.step()
    moved = (packed.detach() - whole).norm()
    assert (packed.detach() - torch.cat([*apart]).detach()).norm() < 1e-3 * moved


def test_a_block_of_zeros_does_not_keep_the_others_from_being_followed() -> None:
    packed = nn.Parameter(torch.cat([start("default", (SIZE, SIZE)), torch.zeros(SIZE, SIZE)]))
    group = {"params": [packed], "blocks": 2}
    optimizer = vd.EndToEndSGD([group], lr=1e-4, depth=3, solver="tracked")
    for step in range(10):
        packed.grad = random_tensor((2 * SIZE, SIZE), step)
        optimizer.step()
    assert optimizer.state[packed]["tracked_decomposed"] < 4
    assert not packed[SIZE:].any()


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 40), (40, SIZE), (8, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_resumes_bitwise(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    p = nn.Parameter(random_tensor(shape, 1, dtype))
    optimizer = vd.EndToEndSGD([p], lr=1e-4, depth=3, solver="tracked", momentum=0.5)

    def go_on(p: nn.Parameter, optimizer: vd.EndToEndSGD, first: int) -> None:
        for step in range(first, first + 4):
            p.grad = random_tensor(shape, step, dtype)
            optimizer.step()

    go_on(p, optimizer, 0)
    kept = through_a_file(copy_of(optimizer.state_dict()))
    q = nn.Parameter(p.detach().clone())
    resumed = vd.EndToEndSGD([q], lr=1e-4, depth=3, solver="tracked", momentum=0.5)
    resumed.load_state_dict(kept)
    go_on(p, optimizer, 4)
    go_on(q, resumed, 4)
    assert_bitwise(q, p)
    assert_bitwise(resumed.state_dict(), optimizer.state_dict())


def test_routing_counts_and_weighs_it() -> None:
    _, p, optimizer = errors_of_a_run(start("default", (SIZE, 60)), 10, 1e-4, depth=3)
    (route,) = vd.routing(optimizer)
    assert route.solver == "tracked"
    count = optimizer.state[p]["tracked_resynchronised"]
    assert route.note == f"decomposed at 1 of 10 steps, resynchronised at {count}"
    assert f"layer: {route.note}" in str(vd.routing(optimizer))
    assert route.state_bytes == 8 * (SIZE * SIZE + 2 * SIZE * 60 + 2 * SIZE)
    state = optimizer.state[p]
    assert (state["tracked_decomposed"], state["tracked_steps"]) == (1, 10)


def test_a_single_row_has_its_closed_form() -> None:
    p = nn.Parameter(random_tensor((1, 5), 1))
    (route,) = vd.routing(vd.EndToEndSGD([p], depth=2, solver="tracked"))
    assert (route.solver, route.state_bytes) == ("closed form", 0)


def test_a_depth_that_changes_is_followed() -> None:
    errors, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 5, 1e-3, depth=3)
    optimizer.param_groups[0]["depth"] = 4.5
    before = p.detach().clone()
    optimizer.step()
    exact = literal(before, p.grad, 4.5)
    assert float(((before - p.detach()) / 1e-3 - exact).norm() / exact.norm()) < 1e-3
    assert max(errors) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.ones(3, 4, dtype=dtype))
    with pytest.raises(TypeError, match=r"float32 or float64 with solver='tracked' but got"):
        vd.EndToEndSGD([p], depth=3, solver="tracked")


def test_another_optimizer_has_no_room_for_it() -> None:
    p = nn.Parameter(random_tensor((3, 4), 1))
    with pytest.raises(ValueError, match=r"solver: expected .* got 'tracked'.*EndToEndSGD"):
        vd.with_depth(
            torch.optim.SGD([p], lr=0.1), 3, solver="tracked", step_scale="raw", on="gradient"
        )


def test_a_step_of_rate_zero_changes_nothing() -> None:
    _, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 3, 1e-3, depth=3)
    before, state = p.detach().clone(), copy_of(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 1e-3
    assert_bitwise(p.detach(), before)
    assert_bitwise(optimizer.state_dict(), state)


def test_a_weight_set_to_zero_stays_there() -> None:
    _, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 3, 1e-3, depth=3)
    p.data.zero_()
    for _ in range(2):
        p.grad = random_tensor((SIZE, SIZE), 7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of matrices that never move
            optimizer.step()
        assert not p.any()


def test_groups_have_a_solver_each() -> None:
    solvers = ("svd", "tracked", "layers", "auto")
    together = [nn.Parameter(start("default", (SIZE, SIZE))) for _ in solvers]
    alone = [nn.Parameter(start("default", (SIZE, SIZE))) for _ in solvers]
    options: dict[str, Any] = {"lr": 1e-3, "depth": 2, "momentum": 0.9}
    groups = [{"params": [p], "solver": s} for p, s in zip(together, solvers, strict=True)]
    one = vd.EndToEndSGD(groups, **options)
    each = [vd.EndToEndSGD([p], solver=s, **options) for p, s in zip(alone, solvers, strict=True)]
    for step in range(4):
        for p in (*together, *alone):
            p.grad = random_tensor((SIZE, SIZE), step) if step != 2 else None
        for optimizer in (one, *each):
            optimizer.step()
    assert_bitwise(together, alone)
    assert [route.solver for route in vd.routing(one)] == [*solvers[:-1], "svd"]
    assert one.state[together[1]]["tracked_steps"] == 3


def test_what_a_step_left_is_a_number_where_it_could_not_be_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scale of "rms" is a plain value: the step waits for the device and decides at once."""
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    _, p, optimizer = errors_of_a_run(start("default", (6, 6)), 3, 1e-3, step_scale="rms")
    optimizer.state_dict()
    assert isinstance(optimizer.state[p]["tracked_residual"], float)
