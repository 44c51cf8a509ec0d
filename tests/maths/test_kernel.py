"""K(a, b): against 60 digits, against the sum over the layers, and its algebra."""

import itertools
import math

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths import truth
from tests.maths.matrices import DEPTHS

from virtualdepth import depth_kernel
from virtualdepth.maths import check_depth, gain_exponent, layer_count
from virtualdepth.maths._kernel import has_few_layers, kernel_inside, kernel_outside

VALUES = (0.0, 1e-150, 1e-6, 0.3, 0.3 + 1e-15, 0.3 * (1 + 1e-9), 1.0, 2.5, 1e6, 1e100)
PAIRS = tuple(itertools.product(VALUES, VALUES))

# Products of the values below stay far from the ends of float64.
singular_values = st.one_of(st.just(0.0), st.floats(1e-30, 1e30))
depths = st.floats(1, 100)


def kernel(a: float, b: float, depth: float) -> float:
    return depth_kernel(double(a), double(b), depth).item()


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("depth", [*DEPTHS, 1 + 1e-9, 1.001, 1e6])
def test_kernel_to_60_digits(depth: float) -> None:
    a, b = torch.tensor(PAIRS, dtype=torch.float64).T
    result = depth_kernel(a, b, depth)
    expected = [truth.kernel(mp.mpf(x), mp.mpf(y), depth) for x, y in PAIRS]
    for pair, value, exact in zip(PAIRS, result.tolist(), expected, strict=True):
        assert value == pytest.approx(float(exact), rel=2e-13, abs=0), pair


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 50])
def test_kernel_is_the_sum_over_the_layers(depth: int) -> None:
    for a, b in PAIRS:
        expected = float(truth.kernel_sum(a, b, depth))
        assert kernel(a, b, depth) == pytest.approx(expected, rel=2e-13, abs=0), (a, b)


@pytest.mark.parametrize("depth", DEPTHS)
def test_kernel_in_float32(depth: float) -> None:
    values = torch.tensor([0.0, 1e-6, 0.3, 0.30001, 1.0, 2.5, 1e6])
    result = depth_kernel(values[:, None], values[None, :], depth)
    assert result.dtype == torch.float32
    for i, j in itertools.product(range(7), range(7)):
        pair = (values[i].item(), values[j].item())
        exact = float(truth.kernel(*map(mp.mpf, pair), depth))
        assert result[i, j].item() == pytest.approx(exact, rel=1e-5, abs=0), pair


def test_kernel_by_hand() -> None:
    assert kernel(5, 7, 1) == 1
    assert kernel(0, 0, 1) == 1
    assert kernel(5, 7, 2) == pytest.approx(12, rel=1e-14)
    assert kernel(8, 1, 3) == pytest.approx(16 + 4 + 1, rel=1e-14)
    assert kernel(8, 0, 3) == pytest.approx(16, rel=1e-14)
    assert kernel(0, 0, 3) == 0
    assert kernel(3, 3, math.inf) == pytest.approx(9, rel=1e-14)
    assert kernel(math.e, 1, math.inf) == pytest.approx((math.e**2 - 1) / 2, rel=1e-14)
    assert kernel(5, 0, math.inf) == 0
    assert kernel(0, 0, math.inf) == 0


@given(singular_values, singular_values, depths)
def test_kernel_is_symmetric(a: float, b: float, depth: float) -> None:
    assert kernel(a, b, depth) == kernel(b, a, depth)
    assert kernel(a, b, math.inf) == kernel(b, a, math.inf)


@given(singular_values, singular_values, st.floats(1e-10, 1e10), depths)
def test_kernel_is_homogeneous(a: float, b: float, c: float, depth: float) -> None:
    """K(ca, cb) = c^{2-2/N} K(a, b)."""
    for n in (depth, math.inf):
        expected = c ** (2 - 2 / n) * kernel(a, b, n)
        assert kernel(c * a, c * b, n) == pytest.approx(expected, rel=1e-12, abs=0)


@given(singular_values, singular_values, depths)
def test_kernel_lies_between_its_bounds(a: float, b: float, depth: float) -> None:
    """max^{2-2/N} <= K <= N max^{2-2/N}, the lower one met at b = 0, the upper one at a = b."""
    gain = max(a, b) ** (2 - 2 / depth)
    value = kernel(a, b, depth)
    assert gain * (1 - 1e-13) <= value <= depth * gain * (1 + 1e-13)
    assert kernel(a, 0, depth) == pytest.approx(a ** (2 - 2 / depth), rel=1e-13, abs=0)
    assert kernel(a, a, depth) == pytest.approx(depth * a ** (2 - 2 / depth), rel=1e-13, abs=0)


@given(singular_values, singular_values, singular_values, depths)
def test_kernel_grows_with_a_singular_value(a: float, c: float, b: float, depth: float) -> None:
    low, high = sorted((a, c))
    for n in (depth, math.inf):
        assert kernel(low, b, n) <= kernel(high, b, n) * (1 + 1e-13)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(1, 20))
def test_kernel_is_continuous_at_integer_depths(a: float, b: float, depth: int) -> None:
    at = kernel(a, b, depth)
    for nearby in (depth + 1e-8, max(1, depth - 1e-8)):
        # |d ln K / dN| <= 1 / N + 2 |ln max| / N^2 + |ln (a / b)| / N^2, below 20 here
        assert kernel(a, b, nearby) == pytest.approx(at, rel=2e-7)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.sampled_from([1e3, 1e5, 1e7]))
def test_kernel_over_depth_tends_to_the_limit(a: float, b: float, depth: float) -> None:
    """K / N = K_inf (1 + O(1/N))."""
    high, low = max(a, b), min(a, b)
    bound = 2 * (2 * abs(math.log(high)) + abs(math.log(low / high)) + 1e-6) / depth
    limit = kernel(a, b, math.inf)
    assert kernel(a, b, depth) / depth == pytest.approx(limit, rel=bound + 1e-12)


@pytest.mark.parametrize("a", [1e-6, 0.3, 7.0])
@pytest.mark.parametrize("depth", DEPTHS)
def test_kernel_has_no_jump_at_equal_values(a: float, depth: float) -> None:
    """Between the formula and its limit at a = b."""
    neighbour = math.nextafter(a, 9)
    assert kernel(a, neighbour, depth) == pytest.approx(kernel(a, a, depth), rel=1e-14)


def test_kernel_broadcasts_and_promotes() -> None:
    rows, columns = torch.rand(4, 3, 1), torch.rand(5, dtype=torch.float64)
    result = depth_kernel(rows, columns, 3)
    assert result.shape == (4, 3, 5)
    assert result.dtype == torch.float64
    each = kernel(rows[2, 1, 0].item(), columns[4].item(), 3)
    assert result[2, 1, 4].item() == pytest.approx(each, rel=1e-14)
    assert depth_kernel(torch.zeros(0), torch.ones(1), 3).shape == (0,)


def test_kernel_of_nan_or_negative_values_is_nan() -> None:
    for bad in (math.nan, -2.0):
        for depth in (2, math.pi, math.inf):
            assert math.isnan(kernel(bad, 3, depth))
            assert math.isnan(kernel(3, bad, depth))


@pytest.mark.parametrize("bad", [2.0, 3, torch.tensor(2), torch.tensor(2j), None])
def test_kernel_wants_tensors(bad: object) -> None:
    good = torch.tensor(1.0)
    with pytest.raises(TypeError, match=r"^a: expected a floating-point tensor but got .*wrap"):
        depth_kernel(bad, good, 2)
    with pytest.raises(TypeError, match=r"^b: expected a floating-point tensor but got .*wrap"):
        depth_kernel(good, bad, 2)


@pytest.mark.parametrize("depth", [0, 0.999, -1, -math.inf, math.nan])
def test_depth_out_of_range(depth: float) -> None:
    with pytest.raises(ValueError, match=r"^depth: expected a real number >= 1 or inf but got"):
        depth_kernel(torch.ones(1), torch.ones(1), depth)
    with pytest.raises(ValueError, match=r"^layers: expected"):
        check_depth(depth, "layers")


@pytest.mark.parametrize("depth", ["3", None, True, 2j, [2], torch.tensor(2.0)])
def test_depth_of_the_wrong_type(depth: object) -> None:
    with pytest.raises(TypeError, match=r"^depth: expected a real number >= 1 or inf but got"):
        depth_kernel(torch.ones(1), torch.ones(1), depth)


def test_gain_exponent_is_the_degree_of_the_kernel() -> None:
    for depth in DEPTHS:
        degree = math.log(kernel(4, 2, depth) / kernel(2, 1, depth)) / math.log(2)
        assert gain_exponent(depth) == pytest.approx(degree, abs=1e-13)


@pytest.mark.parametrize("depth", [1.0, 1.5, 2.0, 3.0, 8.0, 9.0, math.inf])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_kernel_in_two_parts(depth: float, scaled: bool) -> None:
    sigma = torch.tensor([[3.0, 1.0, 1.0, 1e-3, 0.0]], dtype=torch.float64)
    scale = torch.tensor([[2.0, 1.0, 0.5, 3.0, 1.0]], dtype=torch.float64) if scaled else None
    rows, columns = sigma.unsqueeze(-1), sigma.unsqueeze(-2)
    at_zero = depth_kernel(rows, torch.zeros_like(rows), depth)
    expected = depth_kernel(rows, columns, depth) - at_zero
    if scale is not None:
        expected = expected * scale.unsqueeze(-2)
    found = kernel_inside(sigma, depth, scale)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(kernel_outside(rows, depth), at_zero, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("depth", "few", "count"),
    [(1.0, False, 1.0), (2.0, True, 2.0), (2.5, False, 2.5), (8.0, True, 8.0), (9.0, False, 9.0)],
)
def test_layers_are_counted(depth: float, few: bool, count: float) -> None:
    assert (has_few_layers(depth), layer_count(depth)) == (few, count)


def test_infinite_depth_counts_as_one_layer() -> None:
    assert (has_few_layers(math.inf), layer_count(math.inf)) == (False, 1.0)
