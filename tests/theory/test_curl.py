"""The curl of the rule's field against finite differences, line integrals and a closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from virtualdepth.networks import DeepLinear
from virtualdepth.theory import rule_curl

SHAPES = [(1, 2), (1, 5), (4, 1), (2, 3), (3, 3), (3, 2)]


def normal(*shape: int, seed: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def velocity(weight: Tensor, grad: Tensor, depth: int) -> Tensor:
    """How fast the product of an explicit balanced network moves along the gradients of its layers.

    Fractional powers of a singular Gram matrix would be too rough for finite differences.
    """
    factors = tuple(f.detach() for f in DeepLinear.from_weight(weight, depth).factors)

    def product(*layers: Tensor) -> Tensor:
        network = layers[0]
        for layer in layers[1:]:
            network = layer @ network
        return network

    _, gradients = torch.autograd.functional.vjp(product, factors, grad)
    return torch.autograd.functional.jvp(product, factors, gradients)[1]


def linear(grad: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda weight: (grad * weight).sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_finite_differences_of_an_explicit_network(shape: tuple[int, int], depth: int) -> None:
    weight, target = normal(2, *shape)

    def field(point: Tensor) -> Tensor:
        return velocity(point, (point - target) ** 3, depth).flatten()

    found = rule_curl(weight, lambda w: (w - target).pow(4).sum() / 4, depth)
    columns, step = [], 1e-5
    for entry in range(weight.numel()):
        shift = torch.zeros(weight.numel(), dtype=torch.float64)
        shift[entry] = step
        shift = shift.view(shape)
        columns.append((field(weight + shift) - field(weight - shift)) / (2 * step))
    jacobian = torch.stack(columns, dim=1)
    torch.testing.assert_close(found, jacobian - jacobian.T, rtol=1e-6, atol=1e-6)
    assert torch.equal(found, -found.T)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 4, math.pi, math.inf])
def test_closed_form_of_one_output(depth: float) -> None:
    # F = |w|^(2 - 2/N) (g + (N - 1) <w, g> w / |w|^2); at infinite depth <w, g> w
    weight, grad = normal(2, 1, 4)
    found = rule_curl(weight, linear(grad), depth)
    if math.isinf(depth):
        factor = torch.ones(())
    else:
        factor = (depth - 1) * (depth - 2) / depth * weight.norm() ** (-2 / depth)
    expected = factor * (weight.T @ grad - grad.T @ weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_no_curl_where_the_rule_is_a_gradient(depth: int) -> None:
    weight, grad = normal(2, 1, 6)
    assert rule_curl(weight, linear(grad), depth).abs().max() < 1e-14


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_stokes(depth: int) -> None:
    """The line integral around a small square is curl times area, to second order in its size."""
    weight, target = normal(2, 2, 3)
    across, along = normal(2, 2, 3, seed=3)
    side, points = 1e-3, (torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5

    def edge(begin: Tensor, direction: Tensor) -> float:
        total = 0.0
        for point in points:
            here = begin + side * point * direction
            total += float((velocity(here, here - target, depth) * direction).sum())
        return total * side / len(points)

    half = side / 2
    integral = (
        edge(weight - half * along, across)
        + edge(weight + half * across, along)
        - edge(weight + half * along, across)
        - edge(weight - half * across, along)
    )
    curl = rule_curl(weight, lambda w: (w - target).square().sum() / 2, depth)
    # curl[a, b] = dF_a/dW_b - dF_b/dW_a
    expected = -float(across.flatten() @ curl @ along.flatten()) * side**2
    assert abs(expected) > 1e-8
    assert integral == pytest.approx(expected, rel=1e-4)


def test_no_derivative_where_singular_values_are_equal() -> None:
    grad = torch.arange(4, dtype=torch.float64).view(2, 2)
    with pytest.raises(ValueError, match="weight: expected a matrix of full rank"):
        rule_curl(torch.eye(2, dtype=torch.float64), linear(grad), 3)


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="depth: expected"):
        rule_curl(torch.ones(1, 2, dtype=torch.float64), lambda w: w.sum(), 0.5)
