r"""A limited-memory quasi-Newton step for the end-to-end rule, with no learning rate.

The rule is gradient descent in a metric, dW/dt = -P_W(G), so P_W takes the place that the identity
has in L-BFGS: the inverse Hessian is first taken for :math:`\gamma P_W`, then made to map the
changes of the gradient over the last steps to those steps. All matrices of a group are one vector:
inner products add up over them.

Source: Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35, 1980 (the
recursion); Barzilai and Borwein, "Two-point step size gradient methods", IMA J. Numer. Anal. 8,
1988 (the factor gamma); arXiv 1802.06509, Theorem 1 (P_W).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioner

Matrices = Sequence[Tensor]


class Secant(NamedTuple):
    r"""What one step of a group of matrices told of the loss's curvature.

    Attributes:
        step: :math:`\Delta W` of every matrix.
        change: :math:`\Delta G` of every matrix.
        curvature: :math:`\langle \Delta W, \Delta G \rangle > 0`, over all of them.
    """

    step: Matrices
    change: Matrices
    curvature: float


def inner_product(first: Matrices, second: Matrices) -> float:
    """Add up the Frobenius inner products of two groups of matrices.

    Args:
        first: one of each matrix, (..., m, n).
        second: of the same shapes.

    Returns:
        A number.

    >>> inner_product([torch.eye(2), torch.ones(1, 3)], [torch.ones(2, 2), 2 * torch.ones(1, 3)])
    8.0
    """
    return sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))


def secants(weights: Sequence[Matrices], grads: Sequence[Matrices]) -> list[Secant]:
    r"""Take differences of the last points, back to the first step without positive curvature.

    Args:
        weights: every matrix of the group at the last points, the newest point first.
        grads: their gradients there.

    Returns:
        At most one less than points, the newest first; fewer where
        :math:`\langle \Delta W, \Delta G \rangle \le 0`, since no positive definite matrix maps
        that :math:`\Delta G` to its :math:`\Delta W`.

    >>> one, two, five = (torch.full((1, 1), value) for value in (1.0, 2.0, 5.0))
    >>> [found.curvature for found in secants([[one], [two], [five]], [[one], [five], [two]])]
    [4.0]
    """
    found = []
    for (weight, before), (grad, grad_before) in zip(
        pairwise(weights), pairwise(grads), strict=True
    ):
        step = [a - b for a, b in zip(weight, before, strict=True)]
        change = [a - b for a, b in zip(grad, grad_before, strict=True)]
        curvature = inner_product(step, change)
        if not curvature > 0:
            break
        found.append(Secant(step, change, curvature))
    return found


def barzilai_borwein_length(metrics: Sequence[Preconditioner], newest: Secant) -> float:
    r"""Find Barzilai and Borwein's length of a step along the flow, from the last step.

    :math:`\gamma = \langle s, y \rangle / \langle y, P_W(y) \rangle`: one over a mean of the
    curvatures that the step met, in the metric, in which the largest count most.

    Args:
        metrics: P_W of every matrix.
        newest: s and y.

    Returns:
        gamma > 0; infinity where P_W maps y to 0.

    Source: Barzilai and Borwein 1988, the shorter of their two, in the metric.

    >>> from virtualdepth.maths import preconditioner
    >>> metric = preconditioner(torch.tensor([[4.0]]), 2.0)  # P = 8
    >>> barzilai_borwein_length([metric], Secant([torch.ones(1, 1)], [2 * torch.ones(1, 1)], 2.0))
    0.0625
    """
    squared = sum(
        float(m.squared_norm(y).sum()) for m, y in zip(metrics, newest.change, strict=True)
    )
    return newest.curvature / squared if squared > 0 else math.inf


def quasi_newton(
    grads: Matrices, metrics: Sequence[Preconditioner], known: Sequence[Secant]
) -> Matrices | None:
    r"""Apply the limited-memory inverse Hessian in the metric to the gradient.

    With :math:`s = \Delta W`, :math:`y = \Delta G` and :math:`\rho = 1 / \langle s, y \rangle`,
    from the oldest secant to the newest

    .. math::
        H_0 = \gamma P_W, \quad
        \gamma = \frac{\langle s, y \rangle}{\langle y, P_W(y) \rangle}, \qquad
        H \leftarrow (I - \rho\, s y^\top)\, H\, (I - \rho\, y s^\top) + \rho\, s s^\top,

    applied by the two-loop recursion, without any matrix of that size; gamma is that of the newest
    secant. H maps the newest y to its s, and is positive semidefinite like P_W, so that
    :math:`\langle G, H G \rangle \ge 0`: to subtract D = H(G) is a descent.

    Args:
        grads: G of every matrix.
        metrics: P_W of every matrix.
        known: secants, the newest first.

    Returns:
        D of every matrix, to be subtracted; None where there is no secant, or P_W maps the newest
        y to 0.

    Source: Nocedal 1980, with :math:`\gamma P_W` for the first matrix.

    >>> from virtualdepth.maths import preconditioner
    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> last = Secant(step=[torch.ones(2, 2)], change=[2 * torch.ones(2, 2)], curvature=8.0)
    >>> found = quasi_newton(last.change, [preconditioner(weight, 2.0)], [last])
    >>> found[0]  # the secant equation: H maps the change to the step
    tensor([[1., 1.],
            [1., 1.]])
    """
    if not known:
        return None
    length = barzilai_borwein_length(metrics, known[0])
    if math.isinf(length):
        return None
    rest, shares = list(grads), []
    for secant in known:
        share = inner_product(secant.step, rest) / secant.curvature
        rest = _add(rest, -share, secant.change)
        shares.append(share)
    step = [length * m.apply(q).direction for m, q in zip(metrics, rest, strict=True)]
    for secant, share in zip(reversed(known), reversed(shares), strict=True):
        step = _add(
            step, share - inner_product(secant.change, step) / secant.curvature, secant.step
        )
    return step


def _add(matrices: Matrices, factor: float, others: Matrices) -> list[Tensor]:
    return [torch.add(a, b, alpha=factor) for a, b in zip(matrices, others, strict=True)]
