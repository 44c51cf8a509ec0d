"""The profile F(t) = t (t + lambda)^(N-1): against 60 digits, its limits, and all that uses it."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths import truth
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import depth_kernel, precondition
from virtualdepth.maths import (
    STRUCTURES,
    StructureName,
    balanced_factors,
    balancedness,
    check_imbalance,
    end_to_end_product,
    gain_rate,
    gram_block,
    gram_preconditioner,
    midpoint_step,
    preconditioned_gradient,
    preconditioner,
    relative_change,
    relative_speed,
    singular_value_velocity,
    singular_values,
    small_square,
    unit_scale,
    unit_step,
)
from virtualdepth.maths.jacobi import exact_basis, precondition_in_basis

DEPTHS = (1, 1.5, 2, 3, math.pi, 4, 8, 9, 20.5, 50)
IMBALANCES = (1e-12, 1e-7, 1e-3, 0.3, 1.0, 30.0, 1e5, 1e12)
SIZES = (0.0, 1e-12, 1e-7, 1e-3, 0.3, 0.3 * (1 + 1e-9), 1.0, 2.5, 1e4, 1e12)
LARGEST = 1e300  # beyond, float64 cannot hold K


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("depth", DEPTHS)
def test_kernel_to_60_digits(depth: float) -> None:
    pairs = list(itertools.combinations_with_replacement(SIZES, 2))
    a, b = double(*itertools.chain(*pairs)).reshape(-1, 2).T
    held = 0
    for imbalance in IMBALANCES:
        found = depth_kernel(a, b, depth, imbalance)
        assert torch.equal(found, depth_kernel(b, a, depth, imbalance))
        for pair, value in zip(pairs, found.tolist(), strict=True):
            exact = truth.unbalanced_kernel(*pair, depth, imbalance)
            if 1 / LARGEST < exact < LARGEST:
                assert value == pytest.approx(float(exact), rel=2e-13, abs=0), (pair, imbalance)
                held += 1
    assert held > 150


@pytest.mark.parametrize("depth", DEPTHS)
def test_root_and_slope_of_the_profile_to_60_digits(depth: float) -> None:
    sigma = double(*SIZES)
    for imbalance in IMBALANCES:
        squares = small_square(sigma, depth, imbalance).tolist()
        rates = gain_rate(sigma, depth, imbalance).tolist()
        for size, square, rate in zip(SIZES, squares, rates, strict=True):
            exact = truth.small_square(size, depth, imbalance)
            if exact == 0 or exact > 1 / LARGEST:
                assert square == pytest.approx(float(exact), rel=2e-13, abs=0), (size, imbalance)
            exact = truth.gain_rate(size, depth, imbalance)
            if 1 / LARGEST < exact < LARGEST:
                assert rate == pytest.approx(float(exact), rel=2e-13, abs=0), (size, imbalance)


@pytest.mark.parametrize("depth", [100, 1e3, 1e6, 1e9])
def test_the_profile_of_a_very_deep_network(depth: float) -> None:
    for imbalance, size in itertools.product((1e-3, 0.9, 1.0, 1 + 1 / depth), (1e-3, 0.3, 1.0, 20)):
        found = small_square(double(size), depth, imbalance)
        exact = float(truth.small_square(size, depth, imbalance))
        # the root's own condition is N eps
        assert float(found) == pytest.approx(exact, rel=1e-15 * depth + 1e-12, abs=1e-300)


def test_kernel_by_hand() -> None:
    # N = 2: t (t + 3) = 4 and 10 at t = 1 and 2
    a, b = double(2.0), double(10**0.5)
    assert float(depth_kernel(a, b, 2, 3.0)) == pytest.approx((10 - 4) / (2 - 1), rel=1e-14)
    # N = 3: t (t + 1)^2 = 4 and 18 at t = 1 and 2
    a, b = double(2.0), double(18**0.5)
    assert float(depth_kernel(a, b, 3, 1.0)) == pytest.approx((18 - 4) / (2 - 1), rel=1e-14)
    zero = double(0.0)
    assert float(depth_kernel(zero, zero, 3, 0.5)) == pytest.approx(0.25, rel=1e-14)
    assert float(depth_kernel(a, b, 1, 5.0)) == 1


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(1, 50))
def test_kernel_tends_to_the_balanced_one(a: float, b: float, depth: float) -> None:
    balanced = depth_kernel(double(a), double(b), depth)
    assert torch.equal(depth_kernel(double(a), double(b), depth, imbalance=0), balanced)
    scale = a ** (2 / depth)
    for small in (1e-14, 1e-100, 1e-290):
        found = depth_kernel(double(a), double(b), depth, small * scale)
        # dK / K <= (N - 1) lambda / (t + lambda) where t > 0; beside a zero it starts at N - 1
        bound = 2 * depth * small * (scale / max(b, a) ** (2 / depth)) + 1e-12
        if b == 0 or b ** (2 / depth) > 1e3 * small * scale:
            bound += depth * small
            assert float(found) == pytest.approx(float(balanced), rel=bound), small


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1, 20), st.floats(1e-3, 1e3))
def test_kernel_is_homogeneous(a: float, b: float, depth: float, imbalance: float) -> None:
    """K(c a, c b) with c^{2/N} lambda is c^{2-2/N} K(a, b)."""
    one = depth_kernel(double(a), double(b), depth, imbalance)
    other = depth_kernel(double(7 * a), double(7 * b), depth, 7 ** (2 / depth) * imbalance)
    assert float(other) == pytest.approx(7 ** (2 - 2 / depth) * float(one), rel=1e-12)


@pytest.mark.parametrize("imbalance", [1e-9, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("depth", DEPTHS)
def test_kernel_has_no_jump_at_equal_values(depth: float, imbalance: float) -> None:
    for size in (1e-6, 0.3, 7.0):
        at = depth_kernel(double(size), double(size), depth, imbalance)
        near = depth_kernel(double(size), double(math.nextafter(size, 9)), depth, imbalance)
        assert float(near) == pytest.approx(float(at), rel=1e-13)
        assert float(gain_rate(double(size), depth, imbalance)) == pytest.approx(
            float(at), rel=1e-13
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("imbalance", [1e-30, 1e-3, 1.0])
@pytest.mark.parametrize("depth", DEPTHS)
def test_derivatives_are_finite(depth: float, imbalance: float, dtype: torch.dtype) -> None:
    sigma = torch.tensor([0.0, 1e-20, 0.3, 0.3, 2.0], dtype=dtype, requires_grad=True)
    kernel = depth_kernel(sigma[:, None], sigma, depth, imbalance)
    for values in (
        kernel,
        gain_rate(sigma, depth, imbalance),
        small_square(sigma, depth, imbalance),
    ):
        assert values.isfinite().all()
        if depth > 1:  # else constants
            (slope,) = torch.autograd.grad(values.sum(), sigma, retain_graph=True)
            assert slope.isfinite().all()


def test_the_derivative_is_that_of_the_kernel() -> None:
    sigma = double(0.2, 0.7, 1.5).requires_grad_()
    for depth, imbalance in ((2, 0.3), (3, 0.3), (math.pi, 1e-3), (8, 2.0)):
        assert torch.autograd.gradcheck(
            lambda s, n=depth, lam=imbalance: depth_kernel(s[0], s[1:], n, lam), sigma
        )
        assert torch.autograd.gradcheck(
            lambda s, n=depth, lam=imbalance: gain_rate(s, n, lam), sigma
        )


@pytest.mark.parametrize("bad", ["0.1", None, True, 1j, torch.tensor(0.1)])
def test_an_imbalance_of_the_wrong_type(bad: object) -> None:
    with pytest.raises(TypeError, match=r"^imbalance: expected a finite number >= 0 but got"):
        precondition(torch.eye(2), torch.eye(2), 2, imbalance=bad)


@pytest.mark.parametrize("bad", [-1e-9, math.inf, math.nan])
def test_an_imbalance_out_of_range(bad: float) -> None:
    for call in (
        lambda: depth_kernel(double(1.0), double(1.0), 2, bad),
        lambda: balanced_factors(torch.eye(2), 2, imbalance=bad),
    ):
        with pytest.raises(ValueError, match=r"^imbalance: expected a finite number >= 0 but got"):
            call()


def test_an_imbalance_at_infinite_depth_is_refused() -> None:
    match = r"^imbalance: expected 0 at infinite depth but got 0\.1: .* no limit"
    with pytest.raises(ValueError, match=match):
        precondition(torch.eye(2), torch.eye(2), math.inf, imbalance=0.1)
    assert check_imbalance(0, math.inf) == 0.0


@pytest.mark.parametrize("depth", [2, 3, 9, 2.5])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 5, 5)])
def test_other_ways_to_the_same_step(shape: tuple[int, ...], depth: float) -> None:
    """The basis of a sweep, Gram matrices of rows: they know the imbalance too."""
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    weight[..., -1, :] = weight[..., 0, :]  # a zero singular value if the matrix is not tall
    truth_ = precondition(weight, grad, depth, imbalance=0.3)
    wide, wide_grad = (x.mT if shape[-2] > shape[-1] else x for x in (weight, grad))
    each = torch.full(shape[:-2], 0.3, dtype=torch.float64)
    for imbalance in (0.3, each):
        found, _ = precondition_in_basis(exact_basis(wide), wide_grad, depth, 1e-13, imbalance)
        direction = found.direction.mT if shape[-2] > shape[-1] else found.direction
        torch.testing.assert_close(direction, truth_, rtol=1e-9, atol=1e-11)
    if len(shape) == 2:
        weight = gaussian(*shape, seed=1)
        gram = gram_preconditioner(gram_block(weight, grad), shape, depth, 1e-16, 0.3)
        truth_ = precondition(weight, grad, depth, imbalance=0.3)
        if gram is not None:  # not of a wide W, whose exact zeros are not decomposed
            torch.testing.assert_close(gram.apply(weight, grad).direction, truth_)
        assert gram is not None or shape[0] < shape[1]


@pytest.mark.parametrize("depth", [2.0, 3.0, 5.0, 2.5])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_a_midpoint_step_is_of_second_order(shape: tuple[int, int], depth: float) -> None:
    weight, grad = gaussian(*shape, seed=1) / 2, gaussian(*shape, seed=2)

    def error(length: float) -> float:
        flow = weight
        for _ in range(50):  # Heun's method, far finer
            small = length / 50
            first = precondition(flow, grad, depth, imbalance=0.3)
            second = precondition(flow - small * first, grad, depth, imbalance=0.3)
            flow = flow - small * (first + second) / 2
        metric = preconditioner(weight, depth, imbalance=0.3)
        step = midpoint_step(weight, metric, grad, length, depth, imbalance=0.3)
        return float((weight - step - flow).norm())

    assert error(2e-3) / error(1e-3) == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("form", ["svd", "polar"])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3)])
def test_layers_differ_by_the_imbalance(shape: tuple[int, int], form: str) -> None:
    """W_{j+1}^T W_{j+1} - W_j W_j^T = lambda I beside the smaller layer, and 0 elsewhere."""
    layers = balanced_factors(gaussian(*shape, seed=1), 4, imbalance=0.3, form=form)
    tall = shape[0] > shape[1]
    for number, (before, after) in enumerate(itertools.pairwise(layers)):
        sign = (-1 if tall else 1) * (number == (2 if tall else 0))
        expected = 0.3 * sign * torch.eye(min(shape), dtype=torch.float64)
        torch.testing.assert_close(after.T @ after - before @ before.T, expected)
    expected_norm = 0.3 * min(shape) ** 0.5
    assert float(balancedness(layers).max()) == pytest.approx(expected_norm, rel=1e-12)


def test_polar_layers_are_functions_of_the_size_of_w() -> None:
    weight = gaussian(4, 6, seed=1)
    first, second, third = balanced_factors(weight, 3, imbalance=0.3, form="polar")
    torch.testing.assert_close(second, second.T)
    torch.testing.assert_close(third, second)
    assert torch.linalg.eigvalsh(second).min() > 0
    # continuous where singular vectors are not: at equal singular values
    eye = torch.eye(4, dtype=torch.float64)
    near = balanced_factors(eye + 1e-9 * gaussian(4, 4, seed=2), 3, form="polar")
    for layer in near:
        torch.testing.assert_close(layer, eye, rtol=0, atol=1e-8)
    wide = balanced_factors(weight, 3, hidden_features=7, imbalance=0.3, form="polar")
    assert [tuple(each.shape) for each in wide] == [(7, 6), (7, 7), (4, 7)]
    torch.testing.assert_close(end_to_end_product(wide), weight)
    torch.testing.assert_close(first[:4], wide[0][:4])


@pytest.mark.parametrize("depth", [2, 3, 2.5])
def test_velocity_of_singular_values(depth: float) -> None:
    weight, grad = gaussian(4, 6, seed=1), gaussian(4, 6, seed=2)
    found = preconditioned_gradient(weight, grad, depth, None, 0.3)
    velocity = singular_value_velocity(found.singular_values, found.slopes, depth, 0.0, 0.3)
    ahead, behind = (singular_values(weight - t * found.direction) for t in (1e-6, -1e-6))
    torch.testing.assert_close(velocity, (ahead - behind) / 2e-6, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("depth", [1.5, 2.0, 3.0, 8.0])
def test_the_unit_scale_counts_from_the_least_size(depth: float) -> None:
    weight, grad, lam, cap = gaussian(4, 6, seed=1), gaussian(4, 6, seed=2), 1e-3, 0.05
    found = preconditioned_gradient(weight, grad, depth, None, lam)
    sigma, slopes, direction = found.singular_values, found.slopes, found.direction
    gains, least = depth_kernel(sigma, sigma, depth, lam), lam ** (depth / 2)
    speed = float((gains * slopes.abs() / (sigma + least)).max())
    assert float(relative_speed(sigma, slopes, depth, lam)) == pytest.approx(speed, rel=1e-12)
    stable = 1 / float(gains[0])
    assert float(unit_scale(found, depth, 1e-9, cap, lam)) == pytest.approx(stable, rel=1e-12)
    eighth = float(torch.linalg.svdvals(direction).pow(8).sum()) ** (1 / 8)
    whole = eighth / float(sigma[0] + least)
    expected = cap / (100 * max(speed, whole))
    assert float(unit_scale(found, depth, 100.0, cap, lam)) == pytest.approx(expected, rel=1e-12)
    step = unit_step(found, depth, 100.0, cap, lam)
    torch.testing.assert_close(step, expected * direction)


@pytest.mark.parametrize("lam", [1e-8, 1e-4, 1e-1])
@pytest.mark.parametrize("depth", [1.5, 2.0, 3.0, 8.0])
@pytest.mark.parametrize(
    ("structure", "shape"),
    [
        ("matrix", (5, 7)),
        ("rows", (5, 7)),
        ("columns", (5, 7)),
        ("diagonal", (9,)),
        ("circulant", (9,)),
        ("circulant", (2, 3, 5)),
    ],
)
def test_the_first_step_from_zero_is_capped(
    structure: StructureName, shape: tuple[int, ...], depth: float, lam: float
) -> None:
    grad, lr, cap = 10 * gaussian(*shape, seed=2), 1e9, 0.05
    found = preconditioned_gradient(torch.zeros_like(grad), grad, depth, None, lam, structure)
    step = lr * unit_step(found, depth, lr, cap, lam)
    share = float(STRUCTURES[structure].sizes(step).max()) / (cap * lam ** (depth / 2))
    assert 5 ** (-1 / 8) * (1 - 1e-12) < share < 1 + 1e-12
    torch.testing.assert_close(step / step.norm(), grad / grad.norm())


def test_a_relative_change_counts_from_the_least_size() -> None:
    zero, step = torch.zeros(3, 2), torch.ones(3, 2)
    change = relative_change(preconditioner(zero, 3.0, imbalance=1e-2), step, least=1e-3)
    assert float(change) == pytest.approx(6**0.5 / 1e-3)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 10])
def test_an_imbalance_that_the_dtype_cannot_hold_is_refused(depth: float) -> None:
    """Its power N/2 is the size that a zero counts as; beyond the range P_W was NaN."""
    eye = torch.eye(3)
    power = max(1, depth / 2)
    largest = torch.finfo(torch.float32).max ** (1 / power)
    match = rf"^imbalance: expected at most .* whose power {power:g} torch.float32 .* but got"
    for call in (
        lambda lam: precondition(eye, eye, depth, imbalance=lam),
        lambda lam: precondition(eye.bfloat16(), eye.bfloat16(), depth, imbalance=lam),
        lambda lam: precondition(eye, eye, depth, structure="rows", imbalance=lam),
        lambda lam: singular_value_velocity(eye, eye + 1, depth, imbalance=lam),
    ):
        with pytest.raises(ValueError, match=match):
            call(1.01 * largest)
        assert not call(0.99 * largest).isnan().any()
    wide = eye.double()
    assert precondition(wide, wide, depth, imbalance=1.01 * largest).isfinite().all()
    for other in (
        lambda lam: depth_kernel(eye, eye, depth, lam),
        lambda lam: balanced_factors(eye, 3, imbalance=lam)[1],
    ):
        with pytest.raises(ValueError, match=r"^imbalance: expected at most 3.4e\+38"):
            other(1e39)
        assert not other(3e38).isnan().any()
