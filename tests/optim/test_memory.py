"""One update per matrix, at most ten working matrices (or stacks of small ones), nothing kept."""

from collections.abc import Callable

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import Tensor, nn

from virtualdepth import EndToEndSGD
from virtualdepth.optim._finite_check import FiniteCheck

WORKING, SMALL, STACKED = 10, 64 * 64, 8 * 64 * 64
SHAPES = [(96, 96), (16, 512), (512, 16), (32, 4, 4, 4), (1, 2048)]
HALF = (torch.float16, torch.bfloat16)


def allocated(step: Callable[[], None]) -> tuple[int, int]:
    """Bytes at the peak and at the end, of all that torch's allocator gave during a step."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak, live


def matrices(shape: tuple[int, ...], dtype: torch.dtype, count: int) -> list[Tensor]:
    params = [nn.Parameter(random_tensor(shape, i, dtype)) for i in range(count)]
    for i, p in enumerate(params):
        p.grad = random_tensor(shape, 100 + i, dtype)
    return params


@pytest.mark.parametrize("is_async", [False, True], ids=["cpu", "as on a device"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_takes_one_update_per_matrix_and_a_few_to_work_with(
    shape: tuple[int, ...], dtype: torch.dtype, is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: is_async))
    count = 4
    params = matrices(shape, dtype, count)
    optimizer = EndToEndSGD(params, lr=1e-3, depth=3, weight_decay=0.1, maximize=True)
    optimizer.step()
    peak, left = allocated(optimizer.step)
    computed_in = torch.promote_types(dtype, torch.float32)
    bytes_of_one = params[0].numel() * computed_in.itemsize
    working = WORKING + (2 if dtype in HALF else 0)  # W and G, in the type computed in
    # small matrices of one shape are worked on together
    stacked = min(count, STACKED // params[0].numel()) if params[0].numel() <= SMALL else 1
    assert peak <= (count + working * stacked) * bytes_of_one
    assert peak > count * bytes_of_one, "nothing was measured"
    if not is_async:
        assert left == 0


def test_a_step_at_depth_1_takes_none() -> None:
    params = matrices((96, 96), torch.float32, 4)
    optimizer = EndToEndSGD(params, lr=1e-3, depth=1)
    optimizer.step()
    peak, left = allocated(optimizer.step)
    assert peak < params[0].numel()  # bytes: less than a quarter of one matrix
    assert left == 0


def test_momentum_is_the_only_thing_kept() -> None:
    params = matrices((96, 96), torch.float32, 2)
    optimizer = EndToEndSGD(params, lr=1e-3, depth=3)
    optimizer.param_groups[0]["momentum"] = 0.9
    _, left = allocated(optimizer.step)
    assert left == 2 * params[0].numel() * 4
    _, left = allocated(optimizer.step)
    assert left == 0
