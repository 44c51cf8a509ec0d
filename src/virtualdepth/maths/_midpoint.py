r"""One step of the flow with the gradient G frozen, of second order in the step's length eta.

P_W changes much faster than the gradient where singular values grow. At integer depth up to 8 the
flow is that of balanced factors of W, :math:`\dot W_j = -g_j(W_1, \dots, W_N)`, with
:math:`g_j = (W_N \cdots W_{j+1})^\top G\, (W_{j-1} \cdots W_1)^\top` (arXiv 1802.06509, eq. 9).
The midpoint rule moves them by their velocity half-way, by matrix products alone:

.. math::
    D = W - (W_N - \eta\, g_N') \cdots (W_1 - \eta\, g_1'), \qquad
    g_j' = g_j(W_1 - \tfrac{\eta}{2} g_1, \dots, W_N - \tfrac{\eta}{2} g_N).

At other depths it moves W itself, with a second decomposition:
:math:`D = \eta\, P_{W - \eta P_W(G) / 2}(G)`. The two differ in the third order of eta.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from virtualdepth.maths._factorization import factor_gradients, partial_products
from virtualdepth.maths._kernel import has_few_layers
from virtualdepth.maths._precondition import preconditioned_gradient
from virtualdepth.maths._preconditioner import Preconditioner
from virtualdepth.maths._profile import layer_roots


def midpoint_step(
    weight: Tensor,
    preconditioner: Preconditioner,
    grad: Tensor,
    length: float,
    depth: float,
    rtol: float | None = None,
    imbalance: float = 0.0,
) -> Tensor:
    """Find what a midpoint step of ``length`` eta subtracts from W: D, (..., m, n)."""
    if has_few_layers(depth):
        return _factor_step(preconditioner, grad, length, int(depth), imbalance)
    direction = preconditioner.apply(grad).direction
    half_way = weight - 0.5 * length * direction
    return length * preconditioned_gradient(half_way, grad, depth, rtol, imbalance).direction


def _factor_step(
    preconditioner: Preconditioner, grad: Tensor, length: float, depth: int, imbalance: float
) -> Tensor:
    """Take the midpoint step of the factors."""
    left, sigma, right, *_, tall = preconditioner
    # in the basis of W the factors are S^{1/N} V^T and then S^{1/N}; U stays outside
    projected = left.mT @ (grad.mT if tall else grad)
    first, root = layer_roots(sigma, depth, imbalance)
    factors = [first.unsqueeze(-1) * right, *[torch.diag_embed(root)] * (depth - 1)]
    at_start = _gradients(projected, right, first, root, depth)
    half_way = _descend(factors, at_start, 0.5 * length)
    gradients = factor_gradients(half_way, partial_products(half_way[:-1]), projected)
    product = partial_products(_descend(factors, gradients, length))[-1]
    # subtracted from S V^T, not from W itself: there small singular values would move by the
    # rounding of large ones
    step = left @ (sigma.unsqueeze(-1) * right - product)
    return step.mT if tall else step


def _descend(factors: Sequence[Tensor], gradients: Sequence[Tensor], length: float) -> list[Tensor]:
    """Move each factor by ``length`` against its gradient."""
    return [torch.add(f, g, alpha=-length) for f, g in zip(factors, gradients, strict=True)]


def _gradients(
    projected: Tensor, right: Tensor, first: Tensor, root: Tensor, depth: int
) -> list[Tensor]:
    """Compute the gradients by the factors, all but the first of which are diagonal."""
    core = projected @ right.mT
    powers = [torch.ones_like(root), *accumulate([root] * (depth - 1), torch.mul)]
    inside = [
        powers[depth - j].unsqueeze(-1) * core * (first * powers[j - 2]).unsqueeze(-2)
        for j in range(2, depth + 1)
    ]
    return [powers[-1].unsqueeze(-1) * projected, *inside]
