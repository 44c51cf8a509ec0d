"""What state there is, and when it is made."""

from typing import Any

import pytest
import torch
from tests.contract.tools import (
    assert_bitwise,
    everything,
    random_tensor,
    small_network,
    through_a_file,
    train,
)
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from virtualdepth import EndToEndSGD, precondition

INF = float("inf")


@pytest.mark.parametrize("depth", [1, 2, 2.5, INF])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}, {"rtol": 1e-9}])
def test_none_without_momentum(depth: float, options: dict[str, Any]) -> None:
    model = small_network()
    optimizer = EndToEndSGD(model.parameters(), lr=0.05, depth=depth, **options)
    train(model, optimizer)
    assert not optimizer.state
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("depth", [1, 3])
def test_momentum_is_there_before_the_first_step(depth: float) -> None:
    """So that a checkpoint can be loaded into it; for groups that are added, too."""
    p = nn.Parameter(random_tensor((2, 3, 2, 2), 0).to(memory_format=torch.channels_last))
    q = nn.Parameter(random_tensor((3,), 1, torch.bfloat16))
    optimizer = EndToEndSGD([p], lr=0.1, depth=depth, momentum=0.9)
    optimizer.add_param_group({"params": [q], "momentum": 0})
    optimizer.add_param_group({"params": [r := nn.Parameter(random_tensor((2, 2), 2))]})
    assert set(optimizer.state) == {p, r}
    for parameter in (p, r):
        state = optimizer.state[parameter]
        assert set(state) == {"momentum_buffer", "step"}
        assert state["step"] == 0
        assert (state["momentum_buffer"].shape, state["momentum_buffer"].dtype) == (
            parameter.shape,
            parameter.dtype,
        )
        assert state["momentum_buffer"].stride() == parameter.stride()
        assert not state["momentum_buffer"].any()


@pytest.mark.parametrize("depth", [1, 3])
def test_momentum_that_is_raised_on_the_way_begins_then(depth: float) -> None:
    model, twin = small_network(), small_network()
    raised = EndToEndSGD(model.parameters(), lr=0.05, depth=depth)
    train(model, raised)
    twin.load_state_dict(model.state_dict())
    options = {"momentum": 0.9, "dampening": 0.5}
    raised.param_groups[0].update(options)
    assert not raised.state
    train(model, raised, start=3)
    fresh = EndToEndSGD(twin.parameters(), lr=0.05, depth=depth, **options)
    train(twin, fresh, start=3)
    assert_bitwise(everything(model, raised), everything(twin, fresh))


def test_momentum_that_is_lowered_on_the_way_is_kept_for_later() -> None:
    """As torch.optim.SGD does."""
    model, twin = small_network(), small_network()
    ours = EndToEndSGD(model.parameters(), lr=0.05, depth=1, momentum=0.9)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    for start, momentum in ((0, 0.9), (3, 0), (6, 0.5)):
        ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = momentum
        train(model, ours, start=start)
        train(twin, theirs, start=start)
    assert_bitwise([*model.parameters()], [*twin.parameters()])


@pytest.mark.parametrize("depth", [1, 3])
def test_a_step_counts_the_gradients_of_its_parameter(depth: float) -> None:
    params = [nn.Parameter(random_tensor((2, 2), i)) for i in range(2)]
    optimizer = EndToEndSGD(params, lr=0.1, momentum=0.9, depth=depth)
    for step in range(4):
        for i, p in enumerate(params):
            p.grad = torch.ones_like(p) if i == 0 or step % 2 else None
        optimizer.step()
    assert [optimizer.state[p]["step"] for p in params] == [4, 2]


def test_a_checkpoint_from_before_momentum_was_raised() -> None:
    """The state of a checkpoint may be empty while its groups ask for momentum."""
    model, twin = small_network(), small_network()
    theirs = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ours = EndToEndSGD(twin.parameters(), lr=0.3, depth=1)
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    assert {state["step"] for state in ours.state.values()} == {0}
    train(model, theirs)
    train(twin, ours)
    assert_bitwise([*twin.parameters()], [*model.parameters()])


def test_a_checkpoint_of_old_torch_with_a_buffer_of_none() -> None:
    model = small_network()
    ours = EndToEndSGD(model.parameters(), lr=0.05, momentum=0.9, depth=1)
    saved = ours.state_dict()
    saved["state"] = {index: {"momentum_buffer": None} for index in saved["state"]}
    ours.load_state_dict(saved)
    assert {state["step"] for state in ours.state.values()} == {0}
    train(model, ours)


def test_torchs_checkpoint_in_a_deep_group_keeps_its_momentum() -> None:
    """The depth of the group stays; the buffer has taken a step, so dampening acts on the next."""
    p, q = (nn.Parameter(random_tensor((3, 2), 0)) for _ in range(2))
    options = {"lr": 0.1, "momentum": 0.5, "dampening": 0.75}
    theirs = torch.optim.SGD([p], **options)
    p.grad = random_tensor((3, 2), 1)
    theirs.step()
    ours = EndToEndSGD([q], lr=0.3, depth=3)
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    assert ours.param_groups[0]["depth"] == 3
    buffer = ours.state[q]["momentum_buffer"].clone()
    assert_bitwise(buffer, p.grad)
    q.grad = random_tensor((3, 2), 2)
    expected = 0.5 * buffer + 0.25 * precondition(q.detach(), q.grad, 3)
    ours.step()
    torch.testing.assert_close(ours.state[q]["momentum_buffer"], expected, rtol=1e-12, atol=1e-12)


def test_distributed_checkpoints_dry_step_leaves_no_trace() -> None:
    """It is taken where there is no state: lr = 0 and zero gradients, decay or not."""
    model = small_network()
    optimizer = EndToEndSGD(model.parameters(), lr=0.1, depth=3, weight_decay=0.5)
    taken: list[float] = []
    optimizer.register_step_post_hook(lambda opt, *_: taken.append(opt.param_groups[0]["lr"]))
    before = everything(model, optimizer)
    get_optimizer_state_dict(model, optimizer)
    assert taken == [0.0]
    assert_bitwise(everything(model, optimizer), before)
    assert not optimizer.state
