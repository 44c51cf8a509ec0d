"""The tangent kernel against the Jacobian of an explicit network."""

import math

import pytest
import torch
from torch import Tensor

from virtualdepth.maths import precondition
from virtualdepth.networks import DeepLinear
from virtualdepth.theory import tangent_kernel

SHAPES = [(3, 3), (2, 5), (5, 2), (1, 4), (4, 1)]


def draw(shape: tuple[int, int], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    weight = normal(shape[0], rank) @ normal(rank, shape[1])
    return weight, normal(2, shape[1]), normal(3, shape[1])


def by_jacobian(weight: Tensor, inputs: Tensor, others: Tensor, depth: int) -> Tensor:
    """Sum the products of the outputs' derivatives by every weight of every layer."""
    factors = tuple(f.detach() for f in DeepLinear.from_weight(weight, depth).factors)

    def outputs(*layers: Tensor) -> Tensor:
        rows = torch.cat([inputs, others])
        for layer in layers:
            rows = rows @ layer.T
        return rows

    jacobians = torch.autograd.functional.jacobian(outputs, factors)
    blocks = [j.flatten(2) for j in jacobians]
    joint = torch.cat(blocks, dim=-1)
    first, second = joint[: len(inputs)], joint[len(inputs) :]
    return torch.einsum("amp,bnp->abmn", first, second)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 6])
@pytest.mark.parametrize("lost", [0, 1])
def test_jacobian_of_an_explicit_network(shape: tuple[int, int], depth: int, lost: int) -> None:
    weight, inputs, others = draw(shape, min(shape) - lost)
    expected = by_jacobian(weight, inputs, others, depth)
    found = tangent_kernel(weight, inputs, others, depth)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [1.5, math.pi, math.inf])
def test_output_moves_by_the_rule(shape: tuple[int, int], depth: float) -> None:
    weight, inputs, others = draw(shape, min(shape))
    kernel = tangent_kernel(weight, inputs, others, depth)
    pull = torch.linspace(1, 2, shape[0], dtype=torch.float64)
    for a, x in enumerate(inputs):
        for b, other in enumerate(others):
            moved = precondition(weight, torch.outer(pull, other), depth) @ x
            torch.testing.assert_close(kernel[a, b] @ pull, moved, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "input_size"), [(1e25, 1e-20), (1e-26, 1e18)])
def test_sizes_near_the_ends_of_float32(size: float, input_size: float) -> None:
    weight, inputs, others = draw((3, 5), 3)
    found = tangent_kernel(
        (size * weight).float(), (input_size * inputs).float(), (input_size * others).float(), 16
    )
    truth = tangent_kernel(weight, inputs, others, 16) * (size**1.875 * input_size**2)
    torch.testing.assert_close(
        found, truth.float(), rtol=1e-4, atol=1e-5 * float(truth.abs().max())
    )


@pytest.mark.parametrize(("inputs", "others"), [((2, 4), (2, 5)), ((5,), (2, 5))])
def test_shapes_that_do_not_fit(inputs: tuple[int, ...], others: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="inputs: expected rows"):
        tangent_kernel(torch.ones(3, 5), torch.ones(inputs), torch.ones(others), 2)
