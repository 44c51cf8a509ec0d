"""P_W(G) against 60-digit arithmetic, and float32 against float64."""

import math
from functools import cache

import mpmath as mp
import pytest
import torch
from tests.maths import truth
from tests.maths.matrices import (
    DEPTHS,
    SHAPES,
    SPECTRA,
    gaussian,
    permuted_diagonal,
    spectrum,
    with_spectrum,
)
from torch import Tensor

from virtualdepth import precondition
from virtualdepth.maths import preconditioned_gradient

TOLERANCE = 1e-9
RANKS = [(shape, rank) for shape in SHAPES for rank in sorted({0, 1, min(shape) // 2, min(shape)})]


@cache
def full_rank(shape: tuple[int, int], kind: str) -> tuple[Tensor, Tensor, truth.Decomposition]:
    weight = with_spectrum(shape, spectrum(kind, min(shape)))
    return weight, gaussian(*shape, seed=1), truth.decompose(weight)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank(shape: tuple[int, int], kind: str, depth: float) -> None:
    weight, grad, parts = full_rank(shape, kind)
    result = precondition(weight, grad, depth)
    expected = truth.preconditioned(parts, grad, depth)
    assert truth.relative_error(result, expected) < TOLERANCE


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["six decades below 1", "equal"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if max(shape) < 10])
def test_full_rank_by_the_literal_sum(shape: tuple[int, int], kind: str, depth: int) -> None:
    weight, grad, parts = full_rank(shape, kind)
    expected = truth.literally(weight, grad, depth)
    assert truth.relative_error(precondition(weight, grad, depth), expected) < TOLERANCE
    # the two truths agree far beyond float64, so neither is at fault
    with mp.workdps(truth.DIGITS):
        difference = truth.preconditioned(parts, grad, depth) - expected
        assert truth.frobenius(difference) < 1e-35 * truth.frobenius(expected)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("decades", [0, 6])
@pytest.mark.parametrize(("shape", "rank"), RANKS)
def test_exact_zero_singular_values(
    shape: tuple[int, int], rank: int, decades: int, depth: float
) -> None:
    sigma = torch.logspace(0, -decades, min(shape), dtype=torch.float64)
    sigma[rank:] = 0
    weight, grad = permuted_diagonal(shape, sigma, seed=decades), gaussian(*shape, seed=rank)
    expected = truth.preconditioned(truth.decompose_permuted_diagonal(weight), grad, depth)
    assert truth.relative_error(precondition(weight, grad, depth), expected) < TOLERANCE


@cache
def noisy_rank(shape: tuple[int, int], rank: int) -> tuple[Tensor, truth.Decomposition]:
    """A matrix of low rank up to rounding: its last singular values are noise, not zeros."""
    weight = with_spectrum(shape, torch.logspace(0, -4, rank, dtype=torch.float64))
    parts = truth.decompose(weight)
    assert all(0 < sigma < 1e-15 for sigma in parts.sigma[rank:])
    return weight, parts


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    ("shape", "rank"), [(shape, rank) for shape in SHAPES for rank in range(1, min(shape))]
)
def test_singular_values_below_rtol(shape: tuple[int, int], rank: int, depth: float) -> None:
    weight, parts = noisy_rank(shape, rank)
    grad = gaussian(*shape, seed=2)
    expected = truth.preconditioned(parts, grad, depth, rtol=1e-13)
    result = precondition(weight, grad, depth, rtol=1e-13)
    assert truth.relative_error(result, expected) < TOLERANCE


def test_rtol_is_relative_to_the_largest_and_inclusive() -> None:
    weight = torch.diag(torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64))
    grad = torch.ones(3, 3, dtype=torch.float64)
    kept = precondition(weight, grad, 2, rtol=0.24).diagonal()
    assert kept.tolist() == pytest.approx([8, 2, 0])
    dropped = precondition(weight, grad, 2, rtol=0.25).diagonal()  # 1 <= .25 * 4
    assert dropped.tolist() == pytest.approx([8, 0, 0])


@pytest.mark.parametrize(
    ("dtype", "eps"), [(torch.float32, 2.0**-23), (torch.float64, 2.0**-52)], ids=["f32", "f64"]
)
def test_default_rtol_is_machine_epsilon(dtype: torch.dtype, eps: float) -> None:
    """K(s, s) = 2 s at depth 2 shows the cut: sigma <= eps * sigma_1 is zero, and no more."""
    grad = torch.ones(2, 2, dtype=dtype)
    for ratio, seen in ((eps, False), (1.5 * eps, True)):
        weight = torch.diag(torch.tensor([1.0, ratio], dtype=dtype))
        assert (precondition(weight, grad, 2)[1, 1].item() > 0) is seen
        assert precondition(weight, grad, 2, rtol=0.0)[1, 1].item() > 0


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, math.pi, 8])
@pytest.mark.parametrize("condition", [1, 10, 100])
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (30, 100), (128, 16)])
def test_float32_against_float64(shape: tuple[int, int], condition: float, depth: float) -> None:
    sigma = torch.logspace(0, -math.log10(condition), min(shape), dtype=torch.float64)
    weight = with_spectrum(shape, 3 * sigma).float()
    grad = gaussian(*shape, seed=3).float()
    result = precondition(weight, grad, depth)
    expected = precondition(weight.double(), grad.double(), depth)
    assert result.dtype == torch.float32
    assert (result - expected).norm() <= 2e-5 * expected.norm()


@pytest.mark.parametrize("depth", [2, 3, math.pi])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (6, 6), (4, 9), (40, 2)])
def test_half_precision_is_rounded_once(
    shape: tuple[int, int], dtype: torch.dtype, depth: float
) -> None:
    weight, grad = gaussian(*shape, seed=4, dtype=dtype), gaussian(*shape, seed=5, dtype=dtype)
    result = precondition(weight, grad, depth)
    assert result.dtype == dtype
    parts = truth.decompose(weight.double())
    expected = truth.to_tensor(truth.preconditioned(parts, grad.double(), depth))
    rounding = torch.finfo(dtype).eps / 2 * expected.abs()
    assert (
        (result.double() - expected).abs() <= 1.01 * rounding + 1e-5 * expected.abs().max()
    ).all()


@pytest.mark.parametrize(
    ("weight_dtype", "grad_dtype", "computed"),
    [
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float64),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float16, torch.float32, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
    ],
)
@pytest.mark.parametrize("shape", [(1, 6), (4, 6)])
def test_mixed_dtypes(
    shape: tuple[int, int],
    weight_dtype: torch.dtype,
    grad_dtype: torch.dtype,
    computed: torch.dtype,
) -> None:
    weight = gaussian(*shape, seed=6, dtype=weight_dtype)
    grad = gaussian(*shape, seed=7, dtype=grad_dtype)
    assert precondition(weight, grad, 3).dtype == grad_dtype
    direction = preconditioned_gradient(weight, grad, 3.0).direction
    assert direction.dtype == computed
    expected = truth.preconditioned(truth.decompose(weight.double()), grad.double(), 3)
    assert truth.relative_error(direction, expected) < (
        1e-13 if computed == torch.float64 else 1e-5
    )
