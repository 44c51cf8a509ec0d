"""Autocast, which a flow may be called under, lowers no product."""

import math

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import Tensor

from virtualdepth.theory import integrate_flow, minimise_over_factors

TARGET, INPUTS = random_tensor((5, 3), 1) @ random_tensor((3, 4), 2), random_tensor((4, 12), 3)
START = random_tensor((5, 4), 4) / 10


def objective(weight: Tensor) -> tuple[Tensor, Tensor]:
    target, inputs = TARGET.to(weight.dtype), INPUTS.to(weight.dtype)
    residual = (weight - target) @ inputs
    assert residual.dtype == weight.dtype
    return residual @ inputs.T, residual.square().sum() / 2


@pytest.mark.parametrize("depth", [1, 2, 3, 2.5, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
def test_the_flow_keeps_its_precision(depth: float, dtype: torch.dtype, lower: torch.dtype) -> None:
    start = START.to(dtype)
    expected = integrate_flow(objective, start, depth, 0.05)
    with torch.autocast("cpu", dtype=lower):
        found = integrate_flow(objective, start, depth, 0.05)
    assert torch.equal(found.weight, expected.weight)
    assert (found.loss, found.evaluations) == (expected.loss, expected.evaluations)
    assert float((found.weight - start).norm()) > 1e-3  # it went somewhere


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_minimisation_keeps_its_precision(depth: int, dtype: torch.dtype) -> None:
    start = START.to(dtype)
    expected = minimise_over_factors(objective, start, depth, stop_loss=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = minimise_over_factors(objective, start, depth, stop_loss=1e-4)
    assert torch.equal(found.weight, expected.weight)
    assert found.finished
