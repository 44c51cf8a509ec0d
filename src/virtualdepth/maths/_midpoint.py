"""One step of the flow while its gradient stands still, of second order in the step's length.

The metric changes much faster than the gradient where singular values grow.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from virtualdepth.maths._layers import factor_gradients, partial_products
from virtualdepth.maths._precondition import preconditioned_gradient
from virtualdepth.maths._preconditioner import Preconditioner

# up to here the products cost less than a decomposition
_FEW_LAYERS = 8


def midpoint_step(
    weight: Tensor,
    metric: Preconditioner,
    grad: Tensor,
    length: float,
    depth: float,
    rtol: float | None = None,
) -> Tensor:
    r"""Find what a step of the flow's midpoint rule subtracts from W, the gradient G frozen.

    At integer depth up to 8 the flow is that of balanced factors of W,
    :math:`\dot W_j = -g_j(W_1, \dots, W_N) = -(W_N \cdots W_{j+1})^\top G\, (W_{j-1} \cdots
    W_1)^\top`, and the rule moves them by their velocity half-way, with matrix products alone:

    .. math::
        D = W - (W_N - \eta\, g_N') \cdots (W_1 - \eta\, g_1'), \qquad
        g_j' = g_j(W_1 - \tfrac{\eta}{2} g_1, \dots, W_N - \tfrac{\eta}{2} g_N).

    At other depths it moves W itself, with a second decomposition:
    :math:`D = \eta\, P_{W - \eta P_W(G) / 2}(G)`. The two differ in the third order of eta.

    Args:
        weight: W, (..., m, n), finite.
        metric: of W.
        grad: G at W.
        length: eta.
        depth: a valid depth.
        rtol: a valid tolerance.

    Returns:
        D, (..., m, n).

    Source: arXiv 1802.06509, equation 9 and Theorem 1.

    >>> from virtualdepth.maths import preconditioner
    >>> weight, grad = torch.tensor([[4.0]]), torch.tensor([[1.0]])
    >>> metric = preconditioner(weight, 2.0)
    >>> midpoint_step(weight, metric, grad, 0.25, 2.0)  # 4 - (2 - (2 - 2 / 8) / 4)^2
    tensor([[1.5586]])
    """
    if depth % 1 == 0 and 1 < depth <= _FEW_LAYERS:
        return _of_factors(metric, grad, length, int(depth))
    direction = metric.apply(grad).direction
    half_way = weight - 0.5 * length * direction
    return length * preconditioned_gradient(half_way, grad, depth, rtol).direction


def _of_factors(metric: Preconditioner, grad: Tensor, length: float, depth: int) -> Tensor:
    # in the basis of W the factors are S^{1/N} V^T and then S^{1/N}; U stays outside
    projected = metric.left.mT @ (grad.mT if metric.tall else grad)
    root = metric.singular_values.pow(1 / depth)
    factors = [root.unsqueeze(-1) * metric.right, *[torch.diag_embed(root)] * (depth - 1)]
    half_way = _moved(factors, _first_slopes(metric, projected, root, depth), 0.5 * length)
    slopes = factor_gradients(half_way, partial_products(half_way[:-1]), projected)
    product = partial_products(_moved(factors, slopes, length))[-1]
    # against W itself, not against what its decomposition multiplies out to, small singular values
    # would move by the rounding of large ones
    step = metric.left @ (metric.singular_values.unsqueeze(-1) * metric.right - product)
    return step.mT if metric.tall else step


def _moved(factors: Sequence[Tensor], slopes: Sequence[Tensor], length: float) -> list[Tensor]:
    return [torch.add(f, g, alpha=-length) for f, g in zip(factors, slopes, strict=True)]


def _first_slopes(
    metric: Preconditioner, projected: Tensor, root: Tensor, depth: int
) -> list[Tensor]:
    """Compute the gradients by the balanced factors: all but the first are diagonal."""
    core = projected @ metric.right.mT
    powers = [torch.ones_like(root), *accumulate([root] * (depth - 1), torch.mul)]
    inside = [
        powers[depth - j].unsqueeze(-1) * core * powers[j - 1].unsqueeze(-2)
        for j in range(2, depth + 1)
    ]
    return [powers[-1].unsqueeze(-1) * projected, *inside]
