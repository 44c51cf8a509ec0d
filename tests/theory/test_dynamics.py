"""Velocities of singular values and vectors against finite differences of an explicit network."""

import math

import pytest
import torch
from torch import Tensor

from virtualdepth.maths import precondition
from virtualdepth.networks import DeepLinear
from virtualdepth.theory import singular_value_velocity, singular_vector_velocity

SHAPES = [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)]
SVD = tuple[Tensor, Tensor, Tensor]


def draw(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A matrix with well separated singular values, and a gradient."""
    generator = torch.Generator().manual_seed(7)
    u, _, vh = torch.linalg.svd(
        torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False
    )
    sigma = 2.0 ** -torch.arange(min(shape), dtype=torch.float64)
    return u * sigma @ vh, torch.randn(shape, generator=generator, dtype=torch.float64)


def explicit_step(weight: Tensor, grad: Tensor, depth: int, time: float) -> Tensor:
    """Move balanced factors of W by the gradient of <G, product>, for a short time."""
    network = DeepLinear.from_weight(weight, depth)
    torch.sum(grad * network.end_to_end()).backward()
    with torch.no_grad():
        for factor in network.factors:
            factor -= time * factor.grad
        return network.end_to_end()


def single_step(weight: Tensor, grad: Tensor, depth: float, time: float) -> Tensor:
    return weight - time * precondition(weight, grad, depth)


def aligned(weight: Tensor, reference: SVD) -> SVD:
    """The thin SVD with the signs of another one."""
    u, sigma, vh = torch.linalg.svd(weight, full_matrices=False)
    signs = (u * reference[0]).sum(0).sign()
    return u * signs, sigma, vh * signs.unsqueeze(-1)


def differences(step, weight: Tensor, grad: Tensor, depth: float) -> SVD:
    """Central differences of u, sigma and v."""
    time = 1e-5
    here = torch.linalg.svd(weight, full_matrices=False)
    ahead, behind = (aligned(step(weight, grad, depth, t), here) for t in (time, -time))
    du, dsigma, dvh = ((a - b) / (2 * time) for a, b in zip(ahead, behind, strict=True))
    return du, dsigma, dvh.mT


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_explicit_network(shape: tuple[int, int], depth: int) -> None:
    weight, grad = draw(shape)
    du, dsigma, dv = differences(explicit_step, weight, grad, depth)
    scale = depth * 100.0
    torch.testing.assert_close(
        singular_value_velocity(weight, grad, depth), dsigma, rtol=0, atol=1e-7 * scale
    )
    for found, expected in zip(
        singular_vector_velocity(weight, grad, depth), (du, dv), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 * scale)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1.5, math.pi, math.inf])
def test_real_and_infinite_depth(shape: tuple[int, int], depth: float) -> None:
    weight, grad = draw(shape)
    du, dsigma, dv = differences(single_step, weight, grad, depth)
    torch.testing.assert_close(
        singular_value_velocity(weight, grad, depth), dsigma, rtol=0, atol=1e-6
    )
    for found, expected in zip(
        singular_vector_velocity(weight, grad, depth), (du, dv), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_values_of_a_batch() -> None:
    pairs = [draw((3, 4)), tuple(2 * x for x in draw((3, 4)))]
    weights, grads = (torch.stack(both) for both in zip(*pairs, strict=True))
    expected = torch.stack([singular_value_velocity(w, g, 3) for w, g in pairs])
    torch.testing.assert_close(singular_value_velocity(weights, grads, 3), expected)


@pytest.mark.parametrize("depth", [1.5, 3, 16, math.inf])
@pytest.mark.parametrize(("size", "grad_size"), [(1e25, 1e-30), (1e-26, 1e13), (1e-20, 1e-25)])
def test_sizes_near_the_ends_of_float32(size: float, grad_size: float, depth: float) -> None:
    weight, grad = draw((3, 5))
    weight, grad = (size * weight).float(), (grad_size * grad).float()
    found = singular_vector_velocity(weight, grad, depth)
    # u and v may have other signs in float64: the motion of W's own bases has none
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    wide_u, _, wide_vh = torch.linalg.svd(weight.double(), full_matrices=False)
    truth = singular_vector_velocity(weight.double(), grad.double(), depth)
    for mine, exact, basis, wide in zip(
        found, truth, (u, vh.mT), (wide_u, wide_vh.mT), strict=True
    ):
        expected = exact @ wide.mT
        largest = expected.abs().max()
        if 1e-30 < largest < 1e36:
            error = (mine.double() @ basis.double().mT - expected).abs().max()
            assert error < 2e-5 * largest


@pytest.mark.parametrize("spectrum", [[2.0, 2.0, 1.0], [2.0, 1.0, 0.0]])
def test_undetermined_vectors_are_refused(spectrum: list[float]) -> None:
    weight = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    with pytest.raises(ValueError, match="positive and distinct singular values"):
        singular_vector_velocity(weight, torch.ones_like(weight), 2)


@pytest.mark.parametrize("velocity", [singular_value_velocity, singular_vector_velocity])
@pytest.mark.parametrize(
    ("weight", "grad", "error", "message"),
    [
        ((3, 4), (3, 1), ValueError, r"grad: expected the shape \(3, 4\) of weight but got \(3"),
        ((3, 4), (4, 3), ValueError, r"grad: expected the shape \(3, 4\) of weight"),
        ((4,), (4,), ValueError, "weight: expected"),
    ],
)
def test_shapes_that_do_not_fit(velocity, weight, grad, error, message: str) -> None:
    with pytest.raises(error, match=message):
        velocity(torch.ones(weight), torch.ones(grad), 2)


@pytest.mark.parametrize("velocity", [singular_value_velocity, singular_vector_velocity])
def test_integers_are_refused(velocity) -> None:
    with pytest.raises(TypeError, match="weight: expected"):
        velocity(torch.ones(2, 2, dtype=torch.long), torch.ones(2, 2), 2)


def test_vectors_are_of_one_matrix() -> None:
    with pytest.raises(ValueError, match=r"weight: expected one matrix \(m, n\) but got \(2, 3, 4"):
        singular_vector_velocity(torch.ones(2, 3, 4), torch.ones(2, 3, 4), 2)
