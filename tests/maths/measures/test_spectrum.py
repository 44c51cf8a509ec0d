"""Spectral measures: by hand, against numpy and scipy, at the ends of the dtypes."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths.matrices import SHAPES, gaussian, with_spectrum
from torch import Tensor

from virtualdepth import (
    balanced_factors,
    decay_penalty,
    effective_rank,
    nuclear_norm,
    schatten_norm,
    stable_rank,
)
from virtualdepth.maths import StructureName

Measure = Callable[[Tensor], Tensor]
MEASURES: dict[str, Measure] = {
    "nuclear": nuclear_norm,
    "schatten 0.5": partial(schatten_norm, p=0.5),
    "schatten 3": partial(schatten_norm, p=3),
    "schatten inf": partial(schatten_norm, p=math.inf),
    "stable rank": stable_rank,
    "effective rank": effective_rank,
    "decay 3": partial(decay_penalty, depth=3),
}
DEGREE = {
    "stable rank": 0,
    "effective rank": 0,
    "decay 3": 2 / 3,
}  # the others scale with the matrix
EVERY = pytest.mark.parametrize("name", MEASURES)


def by_numpy(name: str, weight: Tensor) -> float:
    sigma = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    return {
        "nuclear": lambda: sigma.sum(),
        "schatten 0.5": lambda: np.sqrt(sigma).sum() ** 2,
        "schatten 3": lambda: (sigma**3).sum() ** (1 / 3),
        "schatten inf": lambda: sigma[0],
        "stable rank": lambda: (np.linalg.norm(weight.double().numpy()) / sigma[0]) ** 2,
        "effective rank": lambda: np.exp(scipy.stats.entropy(sigma)),
        "decay 3": lambda: 1.5 * (sigma ** (2 / 3)).sum(),
    }[name]()


@EVERY
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float, name: str
) -> None:
    weight = gaussian(*shape, dtype=dtype)
    result = MEASURES[name](weight)
    assert result.shape == ()
    assert result.dtype == dtype
    assert result.item() == pytest.approx(by_numpy(name, weight), rel=tolerance)


def test_by_hand() -> None:
    weight = torch.diag(torch.tensor([3.0, 0.0, 1.0], dtype=torch.float64))
    assert nuclear_norm(weight).item() == pytest.approx(4)
    assert schatten_norm(weight, 1).item() == pytest.approx(4)
    assert schatten_norm(weight, 2).item() == pytest.approx(math.sqrt(10))
    assert schatten_norm(weight, 0.5).item() == pytest.approx((math.sqrt(3) + 1) ** 2)
    assert schatten_norm(weight, math.inf).item() == pytest.approx(3)
    assert stable_rank(weight).item() == pytest.approx(10 / 9)
    # p = 3/4, 1/4: exp(H) = (4/3)^{3/4} 4^{1/4}
    assert effective_rank(weight).item() == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


@pytest.mark.parametrize("shape", [(4, 4), (4, 7), (7, 4)])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_equal_singular_values_count_as_their_number(shape: tuple[int, int], rank: int) -> None:
    weight = with_spectrum(shape, torch.full((rank,), 0.3, dtype=torch.float64))
    # the noise of the other values enters as -p ln p, for the effective rank
    assert effective_rank(weight).item() == pytest.approx(rank, rel=1e-13)
    assert stable_rank(weight).item() == pytest.approx(rank, rel=1e-13)


@EVERY
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3), (2, 4, 3)])
def test_zero_matrices_measure_zero(shape: tuple[int, ...], name: str) -> None:
    result = MEASURES[name](torch.zeros(shape))
    assert torch.equal(result, torch.zeros(shape[:-2]))


@EVERY
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 3, 3)])
def test_matrices_without_entries_measure_zero(shape: tuple[int, ...], name: str) -> None:
    assert torch.equal(MEASURES[name](torch.zeros(shape)), torch.zeros(shape[:-2]))


@EVERY
@pytest.mark.parametrize("batch", [(1,), (5,), (2, 3)])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3)])
def test_a_batch_equals_a_loop(shape: tuple[int, int], batch: tuple[int, ...], name: str) -> None:
    weight = gaussian(*batch, *shape)
    weight.reshape(-1, *shape)[0] = 0
    result = MEASURES[name](weight)
    assert result.shape == batch
    each = torch.stack([MEASURES[name](one) for one in weight.reshape(-1, *shape)])
    assert torch.allclose(result.reshape(-1), each, rtol=1e-13, atol=0)


@EVERY
@given(exponent=st.floats(-30, 30), seed=st.integers(0, 1000))
def test_scaling(name: str, exponent: float, seed: int) -> None:
    weight, scale = gaussian(3, 4, seed=seed), 10**exponent
    expected = scale ** DEGREE.get(name, 1) * MEASURES[name](weight).item()
    assert MEASURES[name](scale * weight).item() == pytest.approx(expected, rel=1e-12)
    assert MEASURES[name](-weight.T).item() == pytest.approx(MEASURES[name](weight).item())


@EVERY
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (1e-300, torch.float64),
        (1e300, torch.float64),
        (1e-30, torch.float32),
        (1e30, torch.float32),
    ],
)
def test_at_the_ends_of_the_dtype(name: str, scale: float, dtype: torch.dtype) -> None:
    weight = gaussian(4, 6, dtype=dtype)
    weight = weight / weight.abs().max()
    expected = scale ** DEGREE.get(name, 1) * by_numpy(name, weight)
    assert MEASURES[name](scale * weight).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["stable rank", "effective rank", "schatten inf"])
def test_sums_that_leave_the_range_do_no_harm(name: str) -> None:
    weight = torch.eye(9) * 2e38
    expected = {"schatten inf": 2e38}.get(name, 9)
    assert MEASURES[name](weight).item() == pytest.approx(expected, rel=1e-6)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(dtype: torch.dtype, name: str) -> None:
    weight = gaussian(4, 6, dtype=dtype)
    result = MEASURES[name](weight)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(by_numpy(name, weight), rel=2e-6)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_ranks_are_ordered(m: int, n: int, seed: int) -> None:
    """1 <= stable rank, effective rank <= min(m, n); Schatten norms fall with p."""
    weight = gaussian(m, n, seed=seed)
    for rank in (stable_rank(weight).item(), effective_rank(weight).item()):
        assert 1 - 1e-12 <= rank <= min(m, n) * (1 + 1e-12)
    norms = [schatten_norm(weight, p).item() for p in (0.3, 1, 1.7, 2, 9, math.inf)]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(norms))


@pytest.mark.parametrize("structure", ["matrix", "rows", "columns", "diagonal"])
@pytest.mark.parametrize("depth", [1, 2, 3, 50])
def test_decay_penalty_is_that_of_balanced_layers(depth: int, structure: StructureName) -> None:
    weight = gaussian(3, 5)
    layers = balanced_factors(weight, depth, structure=structure)
    expected = sum(layer.square().sum().item() for layer in layers) / 2
    found = decay_penalty(weight, depth, structure=structure)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    if structure == "matrix":
        norm = schatten_norm(weight, 2 / depth).item()
        assert found.item() == pytest.approx(depth / 2 * norm ** (2 / depth), rel=1e-10)


def test_decay_penalty_is_the_least_of_all_layers() -> None:
    first, second = gaussian(5, 4), gaussian(4, 4)  # unbalanced
    penalty = (first.square().sum() + second.square().sum()) / 2
    assert decay_penalty(first @ second, 2) < penalty


def test_refusals_of_decay_penalty() -> None:
    with pytest.raises(ValueError, match="depth: expected a finite number >= 1 but got inf"):
        decay_penalty(torch.eye(2), math.inf)
    with pytest.raises(ValueError, match=r"structure: expected one of .* but got 'circulant'"):
        decay_penalty(torch.eye(2), 2, structure="circulant")


@pytest.mark.parametrize("p", [0, -1, -math.inf, math.nan])
def test_refuses_p_out_of_range(p: float) -> None:
    with pytest.raises(ValueError, match=r"^p: expected a number > 0 or inf but got"):
        schatten_norm(torch.eye(2), p)


@pytest.mark.parametrize("p", ["2", "nuc", None, True, torch.tensor(2.0)])
def test_refuses_p_that_is_no_number(p: object) -> None:
    with pytest.raises(TypeError, match=r"^p: expected a number > 0 or inf but got"):
        schatten_norm(torch.eye(2), p)


@EVERY
def test_refuses_what_is_no_finite_real_matrix(name: str) -> None:
    measure = MEASURES[name]
    with pytest.raises(ValueError, match=r"^weight: expected a matrix \(\.\.\., m, n\) but got"):
        measure(torch.ones(3))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(TypeError, match=r"^weight: expected a dense real floating-point"):
            measure(torch.ones(2, 2, dtype=dtype))
    with pytest.raises(TypeError, match=r"^weight: expected a tensor but got ndarray"):
        measure(np.eye(2))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^weight: expected finite numbers but got"):
            measure(torch.full((2, 2), bad))
