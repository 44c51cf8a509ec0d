"""The losses against loops over samples and outputs."""

import math

import pytest
import torch

from virtualdepth._lightning._losses import check_power, lp, mse


def residuals(samples: int, outputs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples + outputs)
    return torch.randn(samples, outputs, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("outputs", [1, 4])
def test_mse_by_loops(samples: int, outputs: int) -> None:
    residual = residuals(samples, outputs)
    truth = sum(sum(r * r for r in row) / 2 for row in residual.tolist()) / samples
    assert mse(residual).item() == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_lp_by_loops(samples: int, outputs: int, p: float) -> None:
    residual = residuals(samples, outputs)
    truth = sum(sum(abs(r) ** p / p for r in row) for row in residual.tolist()) / samples
    assert lp(residual, p).item() == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_lp_gradient_is_finite_at_zero(p: float) -> None:
    residual = torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    lp(residual, p).backward()
    assert residual.grad is not None
    assert residual.grad.tolist() == [[0.0, pytest.approx(2.0 ** (p - 1))]]


@pytest.mark.parametrize("p", [0.5, 0, -1, math.inf, math.nan])
def test_power_out_of_range(p: float) -> None:
    with pytest.raises(ValueError, match="p: expected a finite number >= 1 but got"):
        check_power(p)
