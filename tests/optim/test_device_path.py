"""What a step does where reading a number would wait for a device, tried out on the CPU.

The check is told that every tensor is on a device. Writes are then masked by a flag, and the
error comes one step late.
"""

import copy
import re
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, everything, random_tensor, small_network, train
from tests.optim.test_whole_step import FAILURES, Scene
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from virtualdepth import EndToEndSGD
from virtualdepth.maths import _checks, _kernel, _range
from virtualdepth.optim._finite_check import FiniteCheck

INF, NAN = float("inf"), float("nan")

NUMERICAL = {
    name: failure for name, failure in FAILURES.items() if failure[1] is FloatingPointError
}


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    for module in (_checks, _kernel, _range):
        monkeypatch.setattr(module, "HOST", "elsewhere")


class NoReading(TorchDispatchMode):
    """Fails where a number is read from a tensor: by item(), bool() or float()."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "this waits for the device"
        return func(*args, **(kwargs or {}))


def weights(scene: Scene) -> list[Tensor]:
    return [p.detach().clone() for p in scene.params]


def state(scene: Scene) -> list[dict[str, Any]]:
    return [copy.deepcopy(dict(scene.optimizer.state.get(p, {}))) for p in scene.params]


@pytest.mark.parametrize("depth", [1, 2.5, 3, INF])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}]
)
def test_the_steps_are_the_same(
    depth: float, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, twin = small_network(), small_network()
    train(model, EndToEndSGD(model.parameters(), lr=0.05, depth=depth, **options))
    monkeypatch.undo()
    train(twin, EndToEndSGD(twin.parameters(), lr=0.05, depth=depth, **options))
    assert_bitwise([*model.parameters()], [*twin.parameters()])


def test_nothing_is_read_before_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tensor: Tensor) -> list[Any]:
        raise AssertionError("this waits for the device")

    scene = Scene()
    scene.optimizer.state_dict()  # reads what the last step left
    with monkeypatch.context() as patched, NoReading():
        patched.setattr(Tensor, "tolist", refuse)  # goes past the dispatcher
        scene.optimizer.step()
        with pytest.raises(AssertionError, match="waits"):
            scene.optimizer.step()


def test_on_the_cpu_numbers_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can tell the difference."""
    monkeypatch.undo()
    scene = Scene()
    with pytest.raises(AssertionError, match="waits"), NoReading():
        scene.optimizer.step()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("failure", NUMERICAL.values(), ids=NUMERICAL.keys())
def test_a_failure_leaves_everything_and_is_told_one_step_late(failure: Any, named: bool) -> None:
    spoil, error, message = failure
    scene = Scene(named=named)
    spoil(scene.last)
    before, state_before = weights(scene), state(scene)
    scene.optimizer.step()
    assert_bitwise(weights(scene), before)

    gradients = [p.grad for p in scene.params]
    name = "last.weight" if named else "parameter 2 of group 2, shape (4, 3)"
    with pytest.raises(error, match=f"^{re.escape(name)}: .*{message}"):
        scene.optimizer.step()
    assert_bitwise(weights(scene), before)
    assert_bitwise(state(scene), state_before)
    assert all(p.grad is grad for p, grad in zip(scene.params, gradients, strict=True))


def fail_once(scene: Scene) -> None:
    scene.last.grad[0, 0] = NAN
    scene.optimizer.step()


@pytest.mark.parametrize(
    "look",
    [
        lambda optimizer: optimizer.state_dict(),
        lambda optimizer: optimizer.step(),
        lambda optimizer: optimizer.step(lambda: 0.0),
        copy.deepcopy,
    ],
    ids=["state_dict", "step", "closure", "deepcopy"],
)
def test_whoever_looks_is_told_once_and_goes_on(look: Any) -> None:
    scene, undisturbed = Scene(), Scene()
    fail_once(scene)
    with pytest.raises(FloatingPointError, match="finite gradient"):
        look(scene.optimizer)
    for number in (2, 3):
        scene.step(number)
        undisturbed.step(number)
    assert_bitwise(scene.everything(), undisturbed.everything())


def test_momentum_raised_in_a_step_that_fails_begins_in_the_next() -> None:
    p, q = (nn.Parameter(random_tensor((3, 2), 0)) for _ in range(2))
    late, fresh = EndToEndSGD([p], lr=0.1, depth=3), EndToEndSGD([q], lr=0.1, depth=3)
    for optimizer in (late, fresh):
        optimizer.param_groups[0].update(momentum=0.9, dampening=0.5)
    p.grad = torch.full_like(p, NAN)
    late.step()
    with pytest.raises(FloatingPointError):
        late.step()
    assert not late.state[p]["momentum_buffer"].any()
    for step in range(2):
        p.grad, q.grad = random_tensor((3, 2), step), random_tensor((3, 2), step)
        late.step()
        fresh.step()
    assert_bitwise(everything([p], late), everything([q], fresh))


def test_a_step_given_up_halfway_leaves_nothing_for_the_next_to_judge() -> None:
    """The first matrix is not finite, and the last is sparse: the error at once is the last's."""
    scene, undisturbed = Scene(), Scene()
    for one in (scene, undisturbed):
        one.optimizer.state_dict()
    scene.params[0].grad[0, 0] = NAN
    FAILURES["sparse gradient"][0](scene.last)
    with pytest.raises(TypeError):
        scene.optimizer.step()
    scene.step(2)
    undisturbed.step(2)
    assert_bitwise(scene.everything(), undisturbed.everything())


def test_an_error_comes_before_the_warnings_of_the_same_step() -> None:
    """Where warnings are errors, one of them must not swallow it."""
    zero, bad = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.eye(2))
    zero.grad, bad.grad = torch.ones(2, 2), torch.full((2, 2), NAN)
    optimizer = EndToEndSGD([("zero", zero), ("bad", bad)], lr=0.1, depth=2)
    optimizer.step()
    with pytest.raises(FloatingPointError, match=r"^bad: "):
        optimizer.step()


def test_a_zero_matrix_is_told_of_one_step_late() -> None:
    p = nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.ones(2, 2)
    optimizer = EndToEndSGD([("zero", p)], lr=0.1, depth=2)
    optimizer.step()
    with pytest.warns(UserWarning, match=r"^zero: all weights are zero"):
        optimizer.step()
    optimizer.step()


def test_large_numbers_of_float64_are_finite() -> None:
    """Beside a float32 matrix, whose range they exceed."""
    large = nn.Parameter(1e60 * torch.eye(2, dtype=torch.float64))
    small = nn.Parameter(torch.eye(2))
    for p in (small, large):
        p.grad = torch.ones_like(p)
    optimizer = EndToEndSGD([small, large], lr=0.1, depth=2)
    for _ in range(2):
        optimizer.step()
    optimizer.state_dict()


@pytest.mark.parametrize("failing", [False, True])
def test_a_sparse_gradient_at_depth_1_beside_it(failing: bool) -> None:
    """It cannot be masked, so the step waits for the device and decides at once."""
    table, matrix = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.eye(2))
    optimizer = EndToEndSGD(
        [{"params": [table], "depth": 1}, {"params": [matrix]}], lr=0.1, momentum=0.9
    )
    for _ in range(2):
        table.grad = torch.sparse_coo_tensor(
            torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=True
        )
        matrix.grad = torch.ones(2, 2)
        optimizer.step()
    assert optimizer.state[table]["momentum_buffer"].is_sparse
    before = everything([table, matrix], optimizer)
    if failing:
        matrix.grad[0, 0] = INF
        with pytest.raises(FloatingPointError, match="finite gradient"):
            optimizer.step()
        assert_bitwise(everything([table, matrix], optimizer), before)
    else:
        optimizer.step()
        assert not torch.equal(table, before["params"][0])


def test_a_pending_error_is_dropped_with_the_run_it_belongs_to() -> None:
    """A checkpoint that is loaded after it starts from its own state."""
    scene, undisturbed = Scene(), Scene()
    saved = copy.deepcopy(undisturbed.optimizer.state_dict())
    fail_once(scene)
    scene.optimizer.load_state_dict(saved)
    scene.step(2)
    undisturbed.step(2)
    assert_bitwise(scene.everything(), undisturbed.everything())


TRACKED = {"solver": "tracked"}


def test_tracked_reads_nothing_before_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(**TRACKED)
    scene.optimizer.state_dict()  # reads what the last step left
    with NoReading():
        scene.optimizer.step()
        with pytest.raises(AssertionError, match="waits"):
            scene.optimizer.step()


@pytest.mark.parametrize("failure", NUMERICAL.values(), ids=NUMERICAL.keys())
def test_a_failure_leaves_the_singular_vectors_too(failure: Any) -> None:
    spoil, error, message = failure
    scene = Scene(**TRACKED)
    spoil(scene.last)
    scene.optimizer.state_dict()
    before, state_before = weights(scene), state(scene)
    scene.optimizer.step()
    with pytest.raises(error, match=f"parameter 2 of group 2, shape .4, 3.: .*{message}"):
        scene.optimizer.step()
    assert_bitwise(weights(scene), before)
    assert_bitwise(state(scene), state_before)


def test_what_tracking_left_is_met_one_step_late() -> None:
    p = nn.Parameter(random_tensor((6, 6), 1))
    optimizer = EndToEndSGD([p], lr=1e-4, depth=3, solver="tracked")
    decomposed = []
    for step in range(6):
        if step == 3:
            p.data = random_tensor((6, 6), 77)
        p.grad = random_tensor((6, 6), 10 + step)
        optimizer.step()
        decomposed.append(optimizer.state[p]["tracked_decomposed"])
    assert decomposed == [1, 1, 1, 1, 2, 2]
