"""The literal formulas, against computations that share nothing with them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.maths import truth
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import precondition
from virtualdepth.maths._reference import (
    end_to_end_step_literally,
    factor_gradients_literally,
    matrix_power,
    precondition_literally,
)

SHAPES = ((1, 1), (1, 4), (4, 1), (3, 3), (2, 5), (5, 2))


def power_by_numpy(gram: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eig(gram)
    return np.real(vectors * np.maximum(np.real(values), 0) ** exponent @ np.linalg.inv(vectors))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_precondition_by_60_digits(shape: tuple[int, int], depth: int) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    result = precondition_literally(weight, grad, depth)
    # the zero eigenvalues of the larger Gram matrix are noise, which its powers raise to eps^{1/N}
    noise = 0 if shape[0] == shape[1] else 2.0 ** (-52 / depth)
    tolerance = 1e-12 + 10 * noise
    assert truth.relative_error(result, truth.literally(weight, grad, depth)) < tolerance


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_precondition_as_a_kronecker_product(depth: int) -> None:
    """vec(P_W(G)) = sum_j [W^T W]^{(j-1)/N} (x) [W W^T]^{(N-j)/N} vec(G), columns stacked."""
    weight, grad = gaussian(3, 3, seed=1), gaussian(3, 3, seed=2)
    w, g = weight.numpy(), grad.numpy()
    matrix = sum(
        np.kron(
            power_by_numpy(w.T @ w, (j - 1) / depth), power_by_numpy(w @ w.T, (depth - j) / depth)
        )
        for j in range(1, depth + 1)
    )
    expected = (matrix @ g.flatten(order="F")).reshape(3, 3, order="F")
    assert np.allclose(precondition_literally(weight, grad, depth), expected, rtol=1e-11)
    assert np.allclose(precondition(weight, grad, depth), expected, rtol=1e-11)


def test_matrix_power_by_hand() -> None:
    rotation = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    gram = rotation @ torch.diag(torch.tensor([16.0, 81.0], dtype=torch.float64)) @ rotation.T
    fourth_root = rotation @ torch.diag(torch.tensor([2.0, 3.0], dtype=torch.float64)) @ rotation.T
    assert torch.allclose(matrix_power(gram, 0.25), fourth_root, rtol=1e-13)
    assert torch.allclose(matrix_power(gram, 1), gram, rtol=1e-13)
    assert torch.equal(matrix_power(torch.zeros(2, 2), 0), torch.eye(2))
    assert torch.equal(matrix_power(torch.zeros(2, 2), 0.5), torch.zeros(2, 2))
    # an eigenvalue that rounding made negative counts as 0
    assert matrix_power(torch.diag(torch.tensor([-1e-9, 4.0])), 0.5).isfinite().all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_step(depth: int) -> None:
    weight, grad = gaussian(3, 3, seed=1), gaussian(3, 3, seed=2)
    result = end_to_end_step_literally(weight, grad, depth, lr=0.1, weight_decay=0.2)
    moved = truth.to_tensor(truth.literally(weight, grad, depth))
    assert torch.allclose(result, weight - 0.1 * (0.2 * depth * weight + moved), rtol=1e-12)
    plain = end_to_end_step_literally(weight, grad, depth, lr=0.1)
    assert torch.allclose(plain, weight - 0.1 * moved, rtol=1e-12)


@pytest.mark.parametrize("sizes", [[4, 3], [4, 2, 3], [2, 5, 1, 3], [3, 3, 3, 3, 3]])
def test_factor_gradients_by_autograd(sizes: list[int]) -> None:
    factors = [
        gaussian(rows, columns, seed=index).requires_grad_()
        for index, (columns, rows) in enumerate(pairwise(sizes))
    ]
    x = gaussian(sizes[0], 7, seed=8)

    def loss(product: Tensor) -> Tensor:
        return (product @ x).sin().square().sum()

    outputs = torch.eye(sizes[0], dtype=torch.float64)
    for factor in factors:
        outputs = factor @ outputs
    expected = torch.autograd.grad(loss(outputs), factors)
    product = outputs.detach().requires_grad_()
    (grad,) = torch.autograd.grad(loss(product), product)
    result = factor_gradients_literally([factor.detach() for factor in factors], grad)
    assert len(result) == len(expected)
    for ours, autograd in zip(result, expected, strict=True):
        assert ours.shape == autograd.shape
        assert torch.allclose(ours, autograd, rtol=1e-12, atol=1e-12)


def test_gram_powers_leak_where_the_svd_does_not() -> None:
    """Why the literal sum is not the way: 8 layers, rank 2 of 6, against 60 digits."""
    weight = gaussian(6, 2, seed=1) @ gaussian(2, 6, seed=2)
    grad = gaussian(6, 6, seed=3)
    exact = truth.preconditioned(truth.decompose(weight), grad, 8, rtol=1e-13)
    literal = truth.relative_error(precondition_literally(weight, grad, 8), exact)
    ours = truth.relative_error(precondition(weight, grad, 8, rtol=1e-13), exact)
    assert ours < 1e-12
    assert literal > 1e-5
    assert math.isfinite(literal)
