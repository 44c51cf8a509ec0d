"""Half precision: computed in float32, multiplied by lr in float32, rounded once."""

from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, everything, loss_of, random_tensor, small_network
from torch import Tensor, nn

from virtualdepth import EndToEndSGD

HALF = (torch.float16, torch.bfloat16)
INF = float("inf")
SHAPES = [(5, 4), (3, 6), (1, 5), (5, 1), (4, 2, 3)]


def half_and_float(dtype: torch.dtype, **options: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The same matrices and gradients in half precision and, not rounded again, in float32."""
    params = [nn.Parameter(random_tensor(shape, i, dtype)) for i, shape in enumerate(SHAPES)]
    copies = [nn.Parameter(p.detach().float()) for p in params]
    for number, (p, copy) in enumerate(zip(params, copies, strict=True)):
        p.grad = random_tensor(tuple(p.shape), 50 + number, dtype)
        copy.grad = p.grad.float()
    for chosen in (params, copies):
        EndToEndSGD(chosen, lr=0.0123, **options).step()
    return params, copies


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("depth", [1.5, 2, 3, INF])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3, "maximize": True}], ids=str)
def test_it_is_the_float32_step_rounded_once(
    dtype: torch.dtype, depth: float, options: dict[str, Any]
) -> None:
    params, copies = half_and_float(dtype, depth=depth, **options)
    for p, copy in zip(params, copies, strict=True):
        assert_bitwise(p.detach(), copy.detach().to(dtype))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_rounding_the_update_first_would_be_another_step(dtype: torch.dtype) -> None:
    """So the test above can tell the difference."""
    _, copies = half_and_float(dtype, depth=3)
    starts = [random_tensor(shape, i, dtype).float() for i, shape in enumerate(SHAPES)]
    twice = [
        start.to(dtype) + (copy.detach() - start).to(dtype)
        for start, copy in zip(starts, copies, strict=True)
    ]
    assert any(
        not torch.equal(q, copy.detach().to(dtype)) for q, copy in zip(twice, copies, strict=True)
    )


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_keeps_torchs_types(dtype: torch.dtype, nesterov: bool) -> None:
    """Buffers are of the parameter's type, as in torch.optim.SGD, and stay near float32's."""
    options = {"lr": 0.01, "depth": 3, "momentum": 0.9, "nesterov": nesterov}
    p = nn.Parameter(random_tensor((4, 3), 0, dtype))
    q = nn.Parameter(p.detach().float())
    half, single = EndToEndSGD([p], **options), EndToEndSGD([q], **options)
    for step in range(5):
        p.grad = random_tensor((4, 3), 10 + step, dtype)
        q.grad = p.grad.float()
        half.step()
        single.step()
        assert half.state[p]["momentum_buffer"].dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(p.detach().float(), q.detach(), rtol=10 * eps, atol=10 * eps)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_range_that_half_precision_does_not_have(dtype: torch.dtype) -> None:
    """The direction, 3 * 100^{4/3} * 1000, is beyond float16; the step by lr = 1e-4 is not."""
    p = nn.Parameter(100 * torch.eye(2, dtype=dtype))
    p.grad = 1000 * torch.eye(2, dtype=dtype)
    EndToEndSGD([p], lr=1e-4, depth=3).step()
    moved = torch.tensor(100 - 1e-4 * 3 * 100 ** (4 / 3) * 1000).to(dtype)
    assert_bitwise(p.detach().diagonal(), moved.expand(2))


def test_momentum_beyond_the_range_is_refused() -> None:
    """float16 momentum would keep the same direction as inf, and the next step would spread it."""
    p = nn.Parameter(100 * torch.eye(2, dtype=torch.float16))
    p.grad = 1000 * torch.eye(2, dtype=torch.float16)
    optimizer = EndToEndSGD([p], lr=1e-6, depth=3, momentum=0.9)
    before = everything(nn.ParameterList([p]), optimizer)
    with pytest.raises(FloatingPointError, match="finite update"):
        optimizer.step()
    assert_bitwise(everything(nn.ParameterList([p]), optimizer), before)


@pytest.mark.parametrize("autocast_dtype", HALF, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3, INF])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_autocast_round_the_step_changes_nothing(
    autocast_dtype: torch.dtype, depth: float, dtype: torch.dtype
) -> None:
    outcomes = []
    for enabled in (False, True):
        model = small_network(dtype=dtype)
        optimizer = EndToEndSGD(
            model.parameters(), lr=0.05, depth=depth, momentum=0.9, weight_decay=0.1
        )
        for batch in range(3):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            with torch.autocast("cpu", dtype=autocast_dtype, enabled=enabled):
                optimizer.step()
                assert torch.is_autocast_enabled("cpu") == enabled
        outcomes.append(everything(model, optimizer))
    assert_bitwise(outcomes[1], outcomes[0])


def test_autocast_is_on_again_after_an_error() -> None:
    p = nn.Parameter(torch.eye(2))
    p.grad = torch.full((2, 2), 3e38)
    with torch.autocast("cpu"):
        with pytest.raises(FloatingPointError):
            EndToEndSGD([p], depth=3).step()
        assert torch.is_autocast_enabled("cpu")
