"""Weights and gradients near the ends of float32: a step is right, or it is refused."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tests.maths.matrices import gaussian

from virtualdepth import EndToEndSGD, with_depth
from virtualdepth.maths import precondition

SIZES = (1e-40, 1e-26, 1e-13, 1.0, 1e13, 1e25, 1e36)
OPTIONS: Mapping[str, dict[str, Any]] = {
    "svd": {"depth": 3},
    "svd deep": {"depth": 16},
    "svd infinite": {"depth": math.inf},
    "tracked": {"depth": 3, "solver": "tracked"},
    "layers": {"depth": 3, "solver": "layers"},
    "unit": {"depth": 16, "step_scale": "unit"},
    "unit tracked": {"depth": 3, "step_scale": "unit", "solver": "tracked"},
    "rms": {"depth": 3, "step_scale": "rms"},
    "momentum": {"depth": 3, "step_scale": "unit", "momentum": 0.9},
}


def moved(dtype: torch.dtype, size: float, grad_size: float, **options: Any) -> torch.Tensor | None:
    """What two parameters of one shape moved by in three steps; None if a step was refused."""
    starts = [size * gaussian(4, 4, seed=seed) for seed in (1, 2)]
    params = [torch.nn.Parameter(start.float().to(dtype)) for start in starts]
    before = torch.stack([p.detach().clone() for p in params])
    optimizer = EndToEndSGD(params, **options)
    for step in range(3):
        for number, p in enumerate(params):
            p.grad = (grad_size * gaussian(4, 4, seed=10 + 2 * step + number)).float().to(dtype)
        try:
            optimizer.step()
        except FloatingPointError:
            return None
    return torch.stack([p.detach() for p in params]) - before


@pytest.mark.parametrize("name", OPTIONS)
def test_float32_does_as_float64_or_refuses(name: str) -> None:
    eps = torch.finfo(torch.float32).eps
    taken = 0
    for size, grad_size in itertools.product(SIZES, SIZES):
        options = dict(OPTIONS[name])
        scale = options.get("step_scale", "raw")
        # a step of about a hundredth of W
        one = torch.ones(1, 1, dtype=torch.float64)
        direction = float(precondition(size * one, grad_size * one, options["depth"]))
        step = {
            "raw": direction,
            "unit": grad_size,
            "rms": direction / (math.sqrt(grad_size * direction) + 1e-4),
        }[scale]
        lr = 1e-2 * size / step
        # below the range P_W(G) is 0, and no rate brings it back
        if not 1e-37 < lr < 1e37 or (scale != "unit" and direction < 1e-35):
            continue
        if name != "layers":
            options["rtol"] = eps
        found = moved(torch.float32, size, grad_size, lr=lr, **options)
        truth = moved(torch.float64, size, grad_size, lr=lr, **options)
        if found is None:
            # what float32 cannot hold: P_W(G), or the square that "rms" needs
            unheld = direction * (grad_size if scale == "rms" else 1)
            assert scale != "unit", (size, grad_size)
            assert unheld > 1e36, (size, grad_size)
            continue
        taken += 1
        assert truth is not None
        # a step is known up to the rounding of W, and to that of small numbers
        bound = 1e-2 * truth.norm() + 1e-6 * size * 4 + 1e-43
        assert (found.double() - truth).norm() <= bound, (size, grad_size)
    assert taken >= 5


@pytest.mark.parametrize("on", ["gradient", "update"])
def test_other_optimizers_with_depth(on: str) -> None:
    for size in (1e-26, 1e25):
        weight = torch.nn.Parameter(size * torch.eye(3))
        optimizer = with_depth(
            torch.optim.SGD([weight], lr=1e-2), depth=16, on=on, step_scale="unit"
        )
        weight.grad = size * torch.eye(3)
        optimizer.step()
        torch.testing.assert_close(weight.detach() / size, 0.99 * torch.eye(3))


@pytest.mark.parametrize("depth", [2, 3, 16, math.inf])
def test_auto_steps_do_not_depend_on_the_size(depth: float) -> None:
    """On a quadratic whose minimum is of the size of W, in any unit of W and of the loss."""
    ends = []
    for size, unit in ((1.0, 1.0), (2.0**-80, 2.0**20), (2.0**70, 2.0**-60), (2.0**-30, 2.0**100)):
        weight = torch.nn.Parameter((size * gaussian(4, 4, seed=1)).float())
        target = gaussian(4, 4, seed=2).float()
        optimizer = EndToEndSGD([weight], depth=depth, step_scale="auto")
        for _ in range(8):
            weight.grad = unit * (weight.detach() / size - target)
            optimizer.step()
        ends.append(weight.detach() / size)
    assert not torch.equal(ends[0], gaussian(4, 4, seed=1).float())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-3, atol=1e-4)


def test_rms_refuses_a_mean_that_it_could_never_leave() -> None:
    weight = torch.nn.Parameter(torch.eye(2))
    optimizer = EndToEndSGD([weight], lr=0.1, depth=2, step_scale="rms")
    weight.grad = 1e25 * torch.eye(2)
    with pytest.raises(FloatingPointError, match=r"^group 0: expected a finite mean"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.eye(2))
    weight.grad = torch.eye(2)
    optimizer.step()
    assert float(weight.detach()[0, 0]) < 1
