"""Matrices near the ends of the range: right where the dtype can hold the result, else inf."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import balancedness, depth_kernel, precondition
from virtualdepth.maths import (
    Preconditioned,
    balanced_factors,
    deficiency_margin,
    effective_rank,
    end_to_end_gap,
    gradient_alignment,
    guaranteed_descent,
    in_units,
    is_ordinary,
    normalized_margin,
    nuclear_norm,
    preconditioned_gradient,
    preconditioner,
    relative_balancedness,
    relative_speed,
    schatten_norm,
    singular_value_velocity,
    spectral_norm,
    squared_preconditioned_norm,
    stable_rank,
    times_power,
    unit_step,
)

F32, F64 = torch.float32, torch.float64
SCALES = (1e-42, 1e-36, 1e-26, 1e-13, 1.0, 1e13, 1e25, 1e36)
DEPTHS = (1.5, 2, 3, math.pi, 16, 50, math.inf)


def agree(found: Tensor, truth: Tensor, tolerance: float = 3e-6) -> bool:
    """Whether a float32 result is a float64 one, rounded; inf stands for what is too large."""
    largest, spacing = torch.finfo(F32).max, torch.finfo(F32).smallest_normal * 2**-23
    if found.dtype != F32 or found.isnan().any():
        return False
    if truth.abs().max() > (1 - tolerance) * largest:
        return truth.abs().max() < (1 + tolerance) * largest or not bool(found.isfinite().all())
    error = (found.double() - truth).norm()
    return bool(error <= tolerance * truth.norm() + 10 * spacing * math.sqrt(truth.numel()))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("depth", DEPTHS)
def test_precondition_of_any_size(depth: float, shape: tuple[int, int]) -> None:
    for size, grad_size in itertools.product(SCALES, SCALES):
        weight = (size * gaussian(*shape, seed=1)).float()
        grad = (grad_size * gaussian(*shape, seed=2)).float()
        eps = torch.finfo(F32).eps
        truth = precondition(weight.double(), grad.double(), depth, rtol=eps)
        assert agree(precondition(weight, grad, depth), truth), (size, grad_size)


def test_the_two_cases_that_users_report() -> None:
    eye = torch.eye(3)
    for size, grad_size in ((1e25, 1e-11), (1e-26, 1e13)):
        found = precondition(size * eye, grad_size * eye, 16)
        truth = 16 * float(torch.tensor(size).double()) ** 1.875 * grad_size
        torch.testing.assert_close(found, truth * eye, rtol=1e-6, atol=0)
        one = precondition(size * torch.ones(1, 1), grad_size * torch.ones(1, 1), 16)
        assert float(one) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 16])
def test_precondition_in_float64(depth: int) -> None:
    """2^{N k} W and 2^j G give 2^{2 (N - 1) k + j} P_W(G)."""
    weight, grad = gaussian(3, 4, seed=1), gaussian(3, 4, seed=2)
    truth = precondition(weight, grad, depth)
    for k, j in itertools.product((-900, -400, 0, 400, 900), repeat=2):
        k //= depth
        exponent = 2 * (depth - 1) * k + j
        if abs(exponent) < 1000:
            scaled = times_power(weight, torch.tensor(float(depth * k), dtype=F64))
            scaled_grad = times_power(grad, torch.tensor(float(j), dtype=F64))
            expected = times_power(truth, torch.tensor(float(exponent), dtype=F64))
            found = precondition(scaled, scaled_grad, depth)
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("lr", [1e-3, 10.0])
def test_a_unit_step_of_any_size(depth: float, lr: float) -> None:
    for size, grad_size in itertools.product(SCALES, SCALES):
        weight = (size * gaussian(3, 5, seed=1)).float()
        grad = (grad_size * gaussian(3, 5, seed=2)).float()
        steps = [
            unit_step(preconditioned_gradient(w, g, depth, 1e-7), depth, lr, 0.05)
            for w, g in ((weight, grad), (weight.double(), grad.double()))
        ]
        assert agree(*steps, 1e-5), (size, grad_size)


def test_squared_norms_and_spectra_of_any_size() -> None:
    for size, grad_size in itertools.product(SCALES, SCALES):
        weight = (size * gaussian(3, 5, seed=1)).float()
        grad = (grad_size * gaussian(3, 5, seed=2)).float()
        found, truth = (
            preconditioned_gradient(w, g, 3.0, 1e-7)
            for w, g in ((weight, grad), (weight.double(), grad.double()))
        )
        assert agree(found.singular_values, truth.singular_values)
        assert agree(found.slopes, truth.slopes)
        square = squared_preconditioned_norm(grad, found)
        exact = squared_preconditioned_norm(grad.double(), truth)
        assert agree(square, exact), (size, grad_size, square, exact)


@pytest.mark.parametrize("depth", DEPTHS)
def test_kernel_speed_and_velocity_of_any_size(depth: float) -> None:
    a = torch.tensor([0.0, *SCALES], dtype=F32)
    high, low, grads = (part.flatten() for part in torch.meshgrid(a, a, a, indexing="ij"))
    for found, truth in (
        (depth_kernel(high, low, depth), depth_kernel(high.double(), low.double(), depth)),
        (
            singular_value_velocity(high, grads, depth),
            singular_value_velocity(high.double(), grads.double(), depth),
        ),
        *(
            (
                relative_speed(s[None], g[None], depth),
                relative_speed(s[None].double(), g[None].double(), depth),
            )
            for s, g in zip(high, grads, strict=True)
        ),
    ):
        for value, exact in zip(found.flatten(), truth.flatten(), strict=True):
            assert agree(value, exact, 2e-5)


# of W and of another matrix of its size
MEASURES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda w, _: nuclear_norm(w),
    lambda w, _: spectral_norm(w),
    lambda w, _: stable_rank(w),
    lambda w, _: effective_rank(w),
    lambda w, _: schatten_norm(w, 0.5),
    lambda w, _: schatten_norm(w, 3),
    lambda w, _: schatten_norm(w, math.inf),
    end_to_end_gap,
    lambda w, _: end_to_end_gap(w, 2 * w),
    deficiency_margin,
    lambda w, near: gradient_alignment(near, w)[0],
    lambda w, near: gradient_alignment(w, near)[1],
    lambda w, near: guaranteed_descent(w[0, 0].abs(), near, 3, 0.1),
    lambda w, near: normalized_margin(near[:, :3], torch.tensor([0, 1, 2]), w),
    lambda w, near: balancedness([w, near.mT]),
    lambda w, _: balancedness([w, w.mT]),
    lambda w, near: relative_balancedness([w, near.mT]),
    lambda w, _: torch.stack([nuclear_norm(f) for f in balanced_factors(w, 16)]),
)


def test_measures_of_any_size() -> None:
    for size, (number, measure) in itertools.product(SCALES, enumerate(MEASURES)):
        weight, near = ((size * gaussian(3, 5, seed=seed)).float() for seed in (1, 2))
        found, truth = measure(weight, near), measure(weight.double(), near.double())
        assert agree(found, truth, 2e-5), (size, number)


@pytest.mark.parametrize("size", [2e38, 3e38])
def test_norms_that_leave_the_range_where_entries_do_not(size: float) -> None:
    weight = torch.full((50, 50), size)
    assert float(effective_rank(weight)) == pytest.approx(1, abs=1e-3)
    assert float(stable_rank(weight)) == pytest.approx(1)
    assert float(nuclear_norm(weight)) == math.inf  # 1e40
    assert float(end_to_end_gap(0.5 * weight, weight)) == pytest.approx(0.5)
    assert float(relative_balancedness([weight, weight])) == 0
    scores = torch.tensor([[3.0, 1.0]])
    margin = normalized_margin(1e6 * scores, torch.tensor([0]), weight)
    assert float(margin) == pytest.approx(2e6 / (50 * size), rel=1e-2)
    product = torch.linalg.multi_dot(balanced_factors(0.02 * weight, 3)[::-1])
    torch.testing.assert_close(product, 0.02 * weight, rtol=1e-4, atol=0)


def test_ordinary_matrices_have_no_units_and_others_do() -> None:
    for dtype, bound in ((F32, 40), (F64, 459)):
        eye = torch.eye(2, dtype=dtype)
        for a, b, ordinary in (
            (0, 0, True),
            (bound, 0, True),
            (bound + 2, 0, False),
            (-bound - 2, 0, False),
            (0, 2 * bound, True),
            (0, -2 * bound - 2, False),
            (bound, bound, False),
            (-bound, 2 * bound, False),
        ):
            weight, grad = 2.0**a * eye, 2.0**b * eye
            for stacked in (False, True):  # a batch is decided on in another way
                pair = [torch.stack([x, eye]) if stacked else x for x in (weight, grad)]
                units = in_units(*pair, math.inf)[-1]
                assert (units is None) is ordinary, (a, b)
            assert is_ordinary(2.0**a, 2.0**b, math.inf, dtype) is ordinary


def test_of_a_batch_only_extreme_matrices_are_scaled() -> None:
    weights, grads = gaussian(3, 4, 5, seed=1).float(), gaussian(3, 4, 5, seed=2).float()
    alone = precondition(weights, grads, 3)
    weights[1] *= 1e25
    together = precondition(weights, grads, 3)
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[2], alone[2])
    zeros = torch.zeros(2, 3, 4)
    assert torch.equal(precondition(zeros, torch.ones(2, 3, 4), 3), zeros)


def test_what_is_not_finite_shows_through() -> None:
    weight, grad = gaussian(3, 4, seed=1).float(), gaussian(3, 4, seed=2).float()
    for bad in (math.nan, math.inf):
        broken = grad.clone()
        broken[0, 0] = bad
        assert not precondition(weight, broken, 3).isfinite().all()
        assert not precondition(1e25 * weight, broken, 3).isfinite().all()


def test_a_batch_comes_apart_with_its_units() -> None:
    weights = torch.stack([torch.eye(2), 1e25 * torch.eye(2)])
    found = preconditioned_gradient(weights, torch.stack([torch.eye(2)] * 2) * 1e-11, 16.0, None)
    first, second = found.unbound()
    assert isinstance(first, Preconditioned)
    assert torch.equal(torch.stack([first.direction, second.direction]), found.direction)
    assert torch.equal(torch.stack([first.slopes, second.slopes]), found.slopes)


def test_gradients_pass_through_the_units() -> None:
    weight, grad = 1e25 * torch.eye(2), (1e-11 * torch.ones(2, 2)).requires_grad_()
    precondition(weight, grad, 16).sum().backward()
    assert grad.grad is not None
    expected = precondition(weight.double(), torch.ones(2, 2, dtype=F64), 16)
    assert agree(grad.grad, expected) or not grad.grad.isfinite().all()
    tiny = (1e-30 * torch.eye(2)).requires_grad_()
    nuclear_norm(tiny).backward()
    torch.testing.assert_close(tiny.grad, torch.eye(2))


def test_a_preconditioner_by_itself_is_for_the_ordinary_range() -> None:
    weight, grad = gaussian(3, 4, seed=1), gaussian(3, 4, seed=2)
    assert torch.equal(
        preconditioner(weight, 3.0).apply(grad).direction, precondition(weight, grad, 3)
    )
