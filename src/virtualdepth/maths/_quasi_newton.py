r"""A limited-memory quasi-Newton step for the end-to-end rule, without a learning rate.

The rule is gradient descent in a metric whose inverse is P_W, so P_W takes the place that the
identity has in L-BFGS: the inverse Hessian starts as :math:`\gamma P_W`, and is then made to map
the changes of the gradient over the last steps to those steps. All matrices of a group are one
vector: inner products add up over them.

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
    r"""What one step of a group of matrices showed of the loss's curvature.

    Attributes:
        step: :math:`\Delta W` of every matrix, (..., m, n).
        change: :math:`\Delta G` of every matrix.
        curvature: :math:`\langle \Delta W, \Delta G \rangle > 0`, over all of them.
    """

    step: Matrices
    change: Matrices
    curvature: float


def inner_product(first: Matrices, second: Matrices) -> float:
    """Add up the Frobenius inner products of two groups of matrices."""
    return sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))


def secants(weights: Sequence[Matrices], grads: Sequence[Matrices]) -> list[Secant]:
    """Take differences of the last points, newest first, up to the first curvature <= 0."""
    # no positive definite matrix maps that change of the gradient to its step
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


def barzilai_borwein_length(preconditioners: Sequence[Preconditioner], newest: Secant) -> float:
    """Compute gamma = <s, y> / <y, P_W(y)>, the shorter step length of Barzilai and Borwein."""
    # one over a mean of the curvatures that the step met, in which the largest count most
    squared = sum(
        float(p.squared_norm(y).sum()) for p, y in zip(preconditioners, newest.change, strict=True)
    )
    return newest.curvature / squared if squared > 0 else math.inf


def quasi_newton(
    grads: Matrices, preconditioners: Sequence[Preconditioner], known: Sequence[Secant]
) -> Matrices | None:
    r"""Apply the limited-memory inverse Hessian to the gradient; ``known`` has the newest first.

    With :math:`s = \Delta W`, :math:`y = \Delta G` and :math:`\rho = 1 / \langle s, y \rangle`,
    from the oldest secant to the newest

    .. math::
        H_0 = \gamma P_W, \quad
        \gamma = \frac{\langle s, y \rangle}{\langle y, P_W(y) \rangle}, \qquad
        H \leftarrow (I - \rho\, s y^\top)\, H\, (I - \rho\, y s^\top) + \rho\, s s^\top,

    applied by the two-loop recursion, without any matrix of that size. Gamma is that of the newest
    secant. H maps the newest y to its s, and is positive semidefinite like P_W, so
    :math:`\langle G, H G \rangle \ge 0`: subtracting D = H(G) is a descent.

    Returns:
        D of every matrix, to be subtracted; None where there is no secant, or P_W maps the newest
        y to 0.
    """
    if not known:
        return None
    length = barzilai_borwein_length(preconditioners, known[0])
    if math.isinf(length):
        return None
    rest, shares = list(grads), []
    for secant in known:
        share = inner_product(secant.step, rest) / secant.curvature
        rest = _add(rest, -share, secant.change)
        shares.append(share)
    step = [length * p.apply(q).direction for p, q in zip(preconditioners, rest, strict=True)]
    for secant, share in zip(reversed(known), reversed(shares), strict=True):
        correction = share - inner_product(secant.change, step) / secant.curvature
        step = _add(step, correction, secant.step)
    return step


def _add(matrices: Matrices, factor: float, others: Matrices) -> list[Tensor]:
    """Add ``factor`` times other matrices."""
    return [torch.add(a, b, alpha=factor) for a, b in zip(matrices, others, strict=True)]
