"""solver="tracked" and "polar" in the optimizer, against the literal rule on the same weights."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.tools import assert_bitwise, copy_of, random_tensor, through_a_file
from tests.optim.truth import preconditioned, preconditioned_term_by_term
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.optim.guard import StepGuard

SIZE = 24


def literal(weight: Tensor, grad: Tensor, depth: float) -> Tensor:
    """P_W(G) in numpy; term by term where it can be, which is safe at equal singular values."""
    w, g = weight.detach().numpy(), grad.numpy()
    if depth % 1 == 0:
        return torch.from_numpy(preconditioned_term_by_term(w, g, int(depth)))
    return torch.from_numpy(preconditioned(w, g, depth))


def target(shape: tuple[int, int]) -> Tensor:
    return random_tensor((shape[0], 3), 5) @ random_tensor((3, shape[1]), 6) / 10


def start(kind: str, shape: tuple[int, int]) -> Tensor:
    if kind == "default":
        return random_tensor(shape, 1) / math.sqrt(3 * shape[1])
    u, _, vh = torch.linalg.svd(random_tensor(shape, 2), full_matrices=False)
    sigma = {
        "near zero": 1e-3 * torch.linspace(1, 0.1, min(shape)),
        "clusters": 1e-4 * torch.arange(min(shape)) + (torch.arange(min(shape)) < 9),
        "decades": torch.logspace(0, -4, min(shape)),
        "identity": 1 + 1e-9 * torch.arange(min(shape)),
    }[kind]
    return u * sigma.double() @ vh


def errors_of_a_run(
    weight: Tensor, steps: int, lr: float, noise: float = 0.0, **options: Any
) -> tuple[list[float], nn.Parameter, vd.EndToEndSGD]:
    """What each step did, over the literal P_W(G) where the step began."""
    p = nn.Parameter(weight.clone())
    optimizer = vd.EndToEndSGD([("layer", p)], lr=lr, **{"solver": "tracked", **options})
    depth, found = optimizer.param_groups[0]["depth"], []
    for step in range(steps):
        before = p.detach().clone()
        p.grad = before - target(tuple(weight.shape))
        p.grad += noise * random_tensor(tuple(weight.shape), 100 + step)
        optimizer.step()
        exact = literal(before, p.grad, depth)
        found.append(float(((before - p.detach()) / lr - exact).norm() / exact.norm()))
    return found, p, optimizer


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8, math.inf])
@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 60), (60, SIZE)], ids=str)
def test_it_follows_the_literal_rule(shape: tuple[int, int], depth: float) -> None:
    errors, _, optimizer = errors_of_a_run(start("default", shape), 60, 1e-3, depth=depth)
    assert np.median(errors) < 1e-4
    assert max(errors) < 1e-3
    state = next(iter(optimizer.state.values()))
    assert state["tracked_steps"] == 60
    assert state["tracked_decomposed"] < 20, "it did not follow"


@pytest.mark.parametrize("kind", ["near zero", "clusters", "decades", "identity"])
@pytest.mark.parametrize("lr", [1e-3, 3e-2])
@pytest.mark.parametrize("noise", [0, 0.3])
def test_where_it_cannot_follow_it_decomposes(kind: str, lr: float, noise: float) -> None:
    errors, _, _ = errors_of_a_run(start(kind, (SIZE, SIZE)), 40, lr, noise, depth=3)
    assert np.median(errors) < 1e-4
    assert max(errors) < 1e-3


@pytest.mark.parametrize("depth", [3, 4])
def test_small_directions_count_where_the_large_ones_have_arrived(depth: int) -> None:
    """There the gradient is small along large singular values, and so is P_W(G)."""
    weight = random_tensor((SIZE, SIZE), 1) / 100 / math.sqrt(SIZE)
    p = nn.Parameter(weight)
    optimizer = vd.EndToEndSGD([p], lr=0.02, depth=depth, solver="tracked")
    u, _, vh = torch.linalg.svd(random_tensor((SIZE, SIZE), 2))
    end = u[:, :3] * torch.tensor([3.0, 2.0, 1.0]).double() @ vh[:3]
    errors = []
    for _ in range(400):
        before = p.detach().clone()
        p.grad = before - end
        optimizer.step()
        exact = literal(before, p.grad, depth)
        errors.append(float(((before - p.detach()) / 0.02 - exact).norm() / exact.norm()))
    assert max(errors) < 1e-3
    assert optimizer.state[p]["tracked_decomposed"] < 400


def test_hot_steps_are_the_exact_path_at_its_price() -> None:
    """It rests for longer and longer, and does not forget to try again."""
    errors, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 40, 0.05, 1.0, depth=2)
    assert max(errors) < 1e-10
    state = optimizer.state[p]
    assert state["tracked_decomposed"] == 40
    assert state["tracked_rest"] > 0
    assert 0 < state["tracked_failures"] < 10
    for _ in range(80):
        p.grad = 1e-6 * random_tensor((SIZE, SIZE), 7)
        optimizer.step()
    assert state["tracked_decomposed"] < 100
    assert state["tracked_failures"] == 0


def test_hot_steps_on_a_device_are_exact_but_for_a_try_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There a turn that left too much is met one step late: each try costs a wrong step."""
    monkeypatch.setattr(StepGuard, "waits", staticmethod(lambda _: True))
    errors, p, optimizer = errors_of_a_run(start("default", (SIZE, SIZE)), 40, 0.05, 1.0, depth=2)
    wrong = [step for step, error in enumerate(errors) if error > 1e-10]
    assert wrong == [1, 3, 6, 11, 20, 37]
    assert optimizer.state[p]["tracked_decomposed"] == 40 - len(wrong)
    for _ in range(80):
        p.grad = 1e-6 * random_tensor((SIZE, SIZE), 7)
        optimizer.step()
    assert optimizer.state[p]["tracked_decomposed"] < 100
    assert optimizer.state[p]["tracked_failures"] == 0


@pytest.mark.parametrize("shape", [(192, 192), (200, 250)], ids=str)
def test_steps_of_a_percent_are_followed(shape: tuple[int, int]) -> None:
    errors, p, optimizer = errors_of_a_run(start("default", shape), 10, 1.5e-3, depth=3)
    before = p.detach().clone()
    optimizer.step()
    assert (before - p).norm() > 0.008 * before.norm()
    assert max(errors) < 5e-4
    assert optimizer.state[p]["tracked_decomposed"] == 1


def test_steps_that_are_tiny_leave_the_singular_vectors_as_they_are() -> None:
    errors, p, optimizer = errors_of_a_run(start("default", (64, 100)), 2, 5e-6, depth=3)
    turned, state = 0, optimizer.state[p]
    for _ in range(40):
        left, weight = state["tracked_left"], p.detach().clone()
        optimizer.step()
        turned += state["tracked_left"] is not left
        exact = literal(weight, p.grad, 3)
        errors.append(float(((weight - p.detach()) / 5e-6 - exact).norm() / exact.norm()))
    assert 2 <= turned <= 15
    assert max(errors) < 2e-4


def in_place(p: Tensor) -> None:
    with torch.no_grad():
        p[0, 0] += 0.1


def by_data(p: Tensor) -> None:
    p.data.mul_(0.7)


def swapped(p: Tensor) -> None:
    p.data = random_tensor((SIZE, SIZE), 77)


@pytest.mark.parametrize("waits", [False, True], ids=["cpu", "as on a device"])
@pytest.mark.parametrize("change", [in_place, by_data, swapped])
def test_a_change_from_outside_does_not_lead_it_astray(
    change: Any, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepGuard, "waits", staticmethod(lambda _: waits))
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
    assert waits or errors[0] < 1e-3


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
    for solver in ("tracked", "polar"):
        optimizer = vd.EndToEndSGD([p], depth=2, solver=solver)
        (route,) = vd.routing(optimizer)
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
        vd.with_depth(torch.optim.SGD([p], lr=0.1), 3, solver="tracked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, r"depth: expected 2 with solver='polar' but got 3"),
        ({"depth": math.inf}, r"depth: expected 2 with solver='polar' but got inf"),
        ({"depth": 2, "step_scale": "unit"}, "knows no singular values, but got 'unit'"),
        ({"depth": 2, "rtol": 1e-9}, "knows no singular values, but got 'raw' and 1e-09"),
        ({"depth": 2, "step_scale": "auto"}, "needs every W decomposed, with solver='polar'"),
    ],
    ids=str,
)
def test_what_the_polar_factor_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vd.EndToEndSGD([nn.Parameter(random_tensor((3, 4), 1))], solver="polar", **options)


@pytest.mark.parametrize("on", ["EndToEndSGD", "with_depth"])
def test_the_polar_factor_moves_as_the_exact_path(on: str) -> None:
    p, q = (nn.Parameter(random_tensor((5, 7), 1)) for _ in range(2))
    for parameter, solver in ((p, "polar"), (q, "svd")):
        if on == "EndToEndSGD":
            optimizer: Any = vd.EndToEndSGD([parameter], lr=0.01, depth=2, solver=solver)
        else:
            plain = torch.optim.SGD([parameter], lr=0.01)
            optimizer = vd.with_depth(plain, 2, solver=solver)
        for step in range(5):
            parameter.grad = random_tensor((5, 7), 10 + step)
            optimizer.step()
        assert not any(state for state in optimizer.state.values())
    torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(q, random_tensor((5, 7), 1))


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
    solvers = ("svd", "polar", "tracked", "layers", "auto")
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
    assert one.state[together[2]]["tracked_steps"] == 3


def test_what_a_step_left_is_a_number_where_it_could_not_be_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scale of "rms" is a plain value: the step waits for the device and decides at once."""
    monkeypatch.setattr(StepGuard, "waits", staticmethod(lambda _: True))
    _, p, optimizer = errors_of_a_run(start("default", (6, 6)), 3, 1e-3, step_scale="rms")
    optimizer.state_dict()
    assert isinstance(optimizer.state[p]["tracked_residual"], float)
