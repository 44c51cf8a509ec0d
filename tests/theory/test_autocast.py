"""Autocast, which a flow may be called under, lowers no product of float64."""

import math

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import Tensor

from virtualdepth.theory import integrate_flow, minimise_over_factors

TARGET, INPUTS = random_tensor((5, 3), 1) @ random_tensor((3, 4), 2), random_tensor((4, 12), 3)
START = random_tensor((5, 4), 4) / 10


def objective(weight: Tensor) -> tuple[Tensor, Tensor]:
    assert weight.dtype == torch.float64
    residual = (weight - TARGET) @ INPUTS
    return residual @ INPUTS.T, residual.square().sum() / 2


@pytest.mark.parametrize("depth", [1, 2, 3, 2.5, math.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_flow_stays_in_float64(depth: float, dtype: torch.dtype) -> None:
    expected = integrate_flow(objective, START, depth, 0.05)
    with torch.autocast("cpu", dtype=dtype):
        found = integrate_flow(objective, START, depth, 0.05)
    assert torch.equal(found.weight, expected.weight)
    assert (found.loss, found.evaluations) == (expected.loss, expected.evaluations)
    assert float((found.weight - START).norm()) > 1e-3  # it went somewhere


@pytest.mark.parametrize("depth", [1, 3])
def test_the_minimisation_stays_in_float64(depth: int) -> None:
    expected = minimise_over_factors(objective, START, depth, stop_loss=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = minimise_over_factors(objective, START, depth, stop_loss=1e-6)
    assert torch.equal(found.weight, expected.weight)
    assert found.finished
