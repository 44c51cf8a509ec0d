"""Gradients of the layers against automatic differentiation."""

from itertools import pairwise

import pytest
import torch

from virtualdepth.maths import factor_gradients, partial_products


@pytest.mark.parametrize("widths", [(3, 2), (4, 3, 5), (5, 4, 6, 2), (1, 2, 2, 2, 1)])
def test_autograd(widths: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = [normal(rows, columns).requires_grad_() for columns, rows in pairwise(widths)]
    grad = normal(widths[-1], widths[0])
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    expected = torch.autograd.grad((product * grad).sum(), factors)
    detached = [factor.detach() for factor in factors]
    products = partial_products(detached)
    torch.testing.assert_close(products[-1], product.detach(), rtol=1e-12, atol=1e-12)
    found = factor_gradients(detached, products, grad)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
