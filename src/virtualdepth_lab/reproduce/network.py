"""Gradient descent on the layers of an explicit linear network, whose product is W."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from virtualdepth.maths import factor_gradients, partial_products


def layer_step(
    factors: Sequence[Tensor], products: Sequence[Tensor], grad: Tensor, lr: float | Tensor
) -> list[Tensor]:
    """Return W_j - lr * dl/dW_j for every layer, given the partial products and dl/dW."""
    gradients = factor_gradients(factors, products, grad)
    return [factor - lr * gradient for factor, gradient in zip(factors, gradients, strict=True)]


def descend(
    factors: Sequence[Tensor], gradient: Callable[[Tensor], Tensor], lr: float | Tensor
) -> Iterator[Tensor]:
    """Yield W before every step, without end; ``gradient`` returns dl/dW at W."""
    while True:
        products = partial_products(factors)
        yield products[-1]
        factors = layer_step(factors, products, gradient(products[-1]), lr)
