r"""How the components of a tensor grow: the law of singular values, for products of K vectors.

A component :math:`w^1 \otimes \dots \otimes w^K` of a canonical polyadic factorisation, or a local
component of a hierarchical one, is multilinear in its vectors. Gradient flow conserves the
differences of their squared norms :math:`\|w^k\|^2 = t + \delta_k`. So the component's norm sigma,
:math:`\sigma^2 = F(t) = \prod_k (t + \delta_k)`, has the law of :mod:`virtualdepth.maths._profile`.

Sources: Razin, Maman, Cohen, arXiv 2102.09972, Theorem 1; arXiv 2201.11729, Theorem 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from virtualdepth.maths._checks import check_depth, check_imbalance
from virtualdepth.maths._kernel import layer_count
from virtualdepth.maths._profile import gain_rate


def vector_norms(vectors: Sequence[Tensor]) -> Tensor:
    """Compute the norms of K vectors of R components, (K, R), from K matrices (R, ...)."""
    return torch.stack([torch.linalg.vector_norm(each, dim=-1) for each in vectors])


def component_slopes(vectors: Sequence[Tensor], grads: Sequence[Tensor]) -> Tensor:
    r"""Compute :math:`\langle G, u_r \rangle`, (R,): the loss's slopes along unit components.

    A component is linear in each of its vectors, so any of them gives
    :math:`\langle w_r, dl/dw_r \rangle / \sigma_r`. That of the largest has the least rounding. A
    zero component has no direction: its slope is 0.

    Returns:
        The slopes, (R,).
    """
    norms = vector_norms(vectors)
    sizes = norms.prod(0)
    dots = torch.stack([(v * g).sum(-1) for v, g in zip(vectors, grads, strict=True)])
    along = dots.gather(0, norms.argmax(0, keepdim=True)).squeeze(0)
    return torch.where(sizes > 0, along / torch.where(sizes > 0, sizes, 1.0), 0.0)


def component_gain(norms: Tensor, depth: float = 1.0, imbalance: float = 0.0) -> Tensor:
    r"""Compute :math:`\sum_k \prod_{i \ne k} \|w^i\|^2\, g(\|w^k\|)` of norms (K, R), (R,).

    g is the gain of one vector with depth, :func:`virtualdepth.maths._profile.gain_rate`, and 1 at
    depth 1, where the sum is :math:`F'(t)`.

    Returns:
        The gains, (R,).
    """
    rates = gain_rate(norms, depth, imbalance)
    total = torch.zeros_like(norms[0])
    for place, rate in enumerate(rates):
        others = torch.cat([norms[:place], norms[place + 1 :]])
        total = total + others.square().prod(0) * rate
    return total


def component_velocity(
    norms: Tensor,
    slopes: Tensor,
    depth: float = 1.0,
    *,
    imbalance: float = 0.0,
    weight_decay: float = 0.0,
) -> Tensor:
    r"""Compute the velocity of the norms of a tensor's components under gradient flow.

    .. math::
        \frac{d\sigma_r}{dt} = -\Big(\sum_{k=1}^K \prod_{i \ne k} \|w_r^i\|^2\Big)
        \langle G, u_r \rangle - K \mu \sigma_r, \qquad \sigma_r = \prod_{k=1}^K \|w_r^k\|

    :math:`u_r` is the component over its norm. Where its K vectors have one norm, the gain in
    brackets is :math:`K \sigma_r^{2-2/K}`: K vectors move a component as K layers move a singular
    value. K is the number of factors of a canonical polyadic factorisation, and the number of
    children plus 1 for a node of a hierarchical one.

    With ``depth`` L on the rows of all factors, as by ``EndToEndSGD(depth=L, structure="rows")``,
    the vectors move as products of L. The norms of one component's vectors may differ; where they
    agree the gain is that of N = K L layers, :math:`N \sigma_r^{2-2/N}`.

    Args:
        norms: of the vectors, (K, R), >= 0.
        slopes: :math:`\langle G, u_r \rangle`, (R,), G = dl/dW.
        depth: L, real, 1 <= L <= inf; at inf the limit with time in units of 1/L.
        imbalance: lambda >= 0 of the L layers of every vector; 0 where L is inf.
        weight_decay: mu, on each of the K L layers; with L = inf in the same units of time. That it
            shrinks an imbalance is left out.

    Returns:
        (R,), in units of the norm per unit of time (learning rate times step).

    Raises:
        TypeError: if ``depth`` or ``imbalance`` is not a real number.
        ValueError: if ``depth`` or ``imbalance`` is out of range, or shapes do not fit.

    Source: arXiv 2102.09972, Theorem 1; arXiv 2201.11729, Theorem 1.

    >>> norms = torch.full((3, 1), 2.0)  # one component of norm 8
    >>> component_velocity(norms, torch.tensor([-1.0]))  # 3 * 8^{4/3}
    tensor([48.])
    >>> component_velocity(norms, torch.tensor([-1.0]), 2)  # 6 * 8^{5/3}
    tensor([192.])
    >>> component_velocity(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([-1.0]))  # 36 + 9 + 4
    tensor([49.])
    """
    depth = check_depth(depth)
    imbalance = check_imbalance(imbalance, depth)
    if norms.ndim != 2 or slopes.shape != norms.shape[1:]:
        raise ValueError(
            f"norms: expected (K, R) and slopes (R,) but got {tuple(norms.shape)} and "
            f"{tuple(slopes.shape)}"
        )
    decay = len(norms) * layer_count(depth) * weight_decay * norms.prod(0)
    velocity: Tensor = -(component_gain(norms, depth, imbalance) * slopes + decay)
    return velocity
