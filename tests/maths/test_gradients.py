"""Derivatives at zero and at equal singular values: finite, and one of the sides of a corner."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from virtualdepth import depth_kernel, precondition
from virtualdepth.maths import (
    balanced_factors,
    balancedness,
    deficiency_margin,
    effective_rank,
    end_to_end_gap,
    guaranteed_descent,
    normalized_margin,
    nuclear_norm,
    reconstruction_error,
    relative_balancedness,
    schatten_norm,
    singular_value_velocity,
    spectral_norm,
    stable_rank,
)

F64 = torch.float64
Measure = Callable[[Tensor], Tensor]
OBSERVED = torch.tensor([[True, False, True]] * 3)

MEASURES: dict[str, Measure] = {
    "effective rank": effective_rank,
    "stable rank": stable_rank,
    "nuclear": nuclear_norm,
    "spectral": spectral_norm,
    "schatten 1/2": lambda w: schatten_norm(w, 0.5),
    "schatten 1": lambda w: schatten_norm(w, 1),
    "schatten 3/2": lambda w: schatten_norm(w, 1.5),
    "schatten 2": lambda w: schatten_norm(w, 2),
    "schatten 7": lambda w: schatten_norm(w, 7),
    "schatten inf": lambda w: schatten_norm(w, math.inf),
    "gap to itself": lambda w: end_to_end_gap(w, w.detach()),
    "gap to another": lambda w: end_to_end_gap(w, torch.ones_like(w)),
    "margin at its target": lambda w: deficiency_margin(w, w.detach()),
    "margin of a target": lambda w: deficiency_margin(torch.ones_like(w), w),
    "normalised margin": lambda w: normalized_margin(w[:1] + 1, torch.tensor([0]), w),
    "balance": lambda w: balancedness([w, w]).sum(),
    "relative balance": lambda w: relative_balancedness([w, w]).sum(),
    "reconstruction": lambda w: reconstruction_error(w, w.detach(), OBSERVED)[0],
    "descent": lambda w: guaranteed_descent(spectral_norm(w), w, 1.5, 0.1),
}
MATRICES: dict[str, Tensor] = {
    "zero": torch.zeros(3, 3, dtype=F64),
    "equal": torch.eye(3, dtype=F64),
    "rank 1": torch.ones(3, 3, dtype=F64),
    "two equal and a zero": torch.diag(torch.tensor([2.0, 2.0, 0.0], dtype=F64)),
    "distinct": torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=F64)),
}


def gradient(measure: Measure, weight: Tensor) -> Tensor:
    leaf = weight.clone().requires_grad_()
    (found,) = torch.autograd.grad(measure(leaf), leaf)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("name", MEASURES)
def test_gradients_are_finite(name: str, kind: str, dtype: torch.dtype) -> None:
    found = gradient(MEASURES[name], MATRICES[kind].to(dtype))
    assert found.isfinite().all(), found


@pytest.mark.parametrize("kind", MATRICES)
def test_norms_have_subgradients(kind: str) -> None:
    """||W + D|| >= ||W|| + <gradient, D> for every D."""
    weight = MATRICES[kind]
    source = torch.Generator().manual_seed(0)
    for norm in (MEASURES["nuclear"], MEASURES["spectral"], MEASURES["schatten 3/2"]):
        slope = gradient(norm, weight)
        for _ in range(50):
            step = torch.randn(3, 3, dtype=F64, generator=source)
            assert norm(weight + step) >= norm(weight) + (slope * step).sum() - 1e-12


def test_a_zero_counts_as_a_constant_where_the_slope_is_infinite() -> None:
    for name in ("effective rank", "schatten 1/2"):
        measure = MEASURES[name]
        rest = torch.diag(torch.tensor([3.0, 1.0], dtype=F64))
        padded = torch.nn.functional.pad(rest, (0, 1, 0, 1))
        expected = torch.nn.functional.pad(gradient(measure, rest), (0, 1, 0, 1))
        torch.testing.assert_close(gradient(measure, padded), expected)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 16, math.inf])
def test_kernel_and_velocity_at_zeros_and_equal_values(depth: float) -> None:
    values = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 1e-30], dtype=F64)
    a = values[:, None].clone().requires_grad_()
    b = values[None, :].clone().requires_grad_()
    for result in (
        depth_kernel(a, b, depth) + 0 * (a + b),
        singular_value_velocity(a, torch.ones(1, 6, dtype=F64), depth) + 0 * b,
    ):
        slopes = torch.autograd.grad(result.sum(), (a, b))
        assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("depth", [1.5, 2, 3, math.inf])
def test_kernel_slope_at_equal_values(depth: float) -> None:
    """K(a, a) = N a^{2-2/N}, of which each argument has half the slope."""
    a, b = (torch.tensor(1.7, dtype=F64, requires_grad=True) for _ in range(2))
    slopes = torch.autograd.grad(depth_kernel(a, b, depth), (a, b))
    n, power = (1.0, 2.0) if math.isinf(depth) else (depth, 2 - 2 / depth)
    for slope in slopes:
        assert float(slope) == pytest.approx(0.5 * n * power * 1.7 ** (power - 1))


@pytest.mark.parametrize("depth", [2, 3])
def test_what_needs_singular_vectors_is_differentiable_at_distinct_values_only(depth: int) -> None:
    for function in (
        lambda w: precondition(w, torch.ones_like(w), depth).square().sum(),
        lambda w: balanced_factors(w, depth)[0].square().sum(),
    ):
        assert gradient(function, MATRICES["distinct"]).isfinite().all()
    for function in (precondition, balanced_factors):
        assert "undefined" in str(function.__doc__)


@pytest.mark.parametrize("kind", MATRICES)
def test_precondition_is_differentiable_in_the_gradient_everywhere(kind: str) -> None:
    weight = MATRICES[kind]
    found = gradient(lambda g: precondition(weight, g, 3).sum(), torch.eye(3, dtype=F64))
    torch.testing.assert_close(found, precondition(weight, torch.ones(3, 3, dtype=F64), 3))
