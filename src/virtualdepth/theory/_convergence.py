"""When gradient descent on a deep linear network provably converges, and how fast.

Source: Arora, Cohen, Golowich, Hu, "A Convergence Analysis of Gradient Descent for Deep Linear
Neural Networks", ICLR 2019, arXiv 1810.02281, Theorem 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.maths import (
    balancedness,
    check_finite,
    check_matrix,
    deficiency_margin,
    end_to_end_product,
    layer_sizes,
)


@dataclass(frozen=True, kw_only=True)
class ConvergenceCertificate:
    r"""What Theorem 1 guarantees for a start, or which of its assumptions do not hold.

    Attributes:
        depth: number of layers N.
        loss: :math:`l(0) = \frac12 \|W(0) - \Phi\|_F^2`.
        largest_margin: :math:`\sigma_{\min}(\Phi) - \|W(0) - \Phi\|_F`; without a margin it is not
            positive.
        margin: c, the deficiency margin that the bounds are computed with.
        delta: the admissible imbalance, :math:`c^2 / (256 N^3 \|\Phi\|_F^{2(N-1)/N})`.
        imbalance: the largest :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F` of the factors.
        max_lr: the largest admissible learning rate,
            :math:`c^{(4N-2)/N} / (6144 N^3 \|\Phi\|_F^{(6N-4)/N})`; 0 without a margin.
        failures: the assumptions that do not hold, in words; empty if the theorem applies.
    """

    depth: int
    loss: float
    largest_margin: float
    margin: float
    delta: float
    imbalance: float
    max_lr: float
    failures: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the theorem applies."""
        return not self.failures

    def iterations(self, epsilon: float, lr: float | None = None) -> int:
        r"""Bound the iterations to a loss of ``epsilon``.

        .. math:: t \ge \frac{\ln(l(0) / \epsilon)}{\eta\, c^{2(N-1)/N}}

        Args:
            epsilon: the loss to reach, > 0.
            lr: eta, 0 < eta <= ``max_lr``; default ``max_lr``.

        Returns:
            The bound; 0 if the loss of the start is small enough.

        Raises:
            ValueError: if an assumption fails, or an argument is out of range.
        """
        if self.failures:
            raise ValueError(f"expected a start that the theorem covers but got {self.failures[0]}")
        lr = self.max_lr if lr is None else lr
        if not 0 < lr <= self.max_lr:
            raise ValueError(f"lr: expected 0 < lr <= {self.max_lr:.3g} but got {lr!r}")
        if not epsilon > 0:
            raise ValueError(f"epsilon: expected a loss > 0 but got {epsilon!r}")
        rate = lr * self.margin ** (2 * (self.depth - 1) / self.depth)
        return max(0, math.ceil(math.log(self.loss / epsilon) / rate)) if self.loss else 0


def convergence_certificate(
    start: Tensor | Sequence[Tensor], target: Tensor, depth: int, *, margin: float | None = None
) -> ConvergenceCertificate:
    r"""Check the assumptions of Theorem 1 for the whitened loss and compute its bounds.

    For :math:`l(W) = \frac12 \|W - \Phi\|_F^2`: if W(0) has the deficiency margin c > 0,
    :math:`\|W(0) - \Phi\|_F \le \sigma_{\min}(\Phi) - c`, the factors are delta-balanced and eta is
    admissible, then the loss of gradient descent on the factors is at most epsilon after
    :meth:`ConvergenceCertificate.iterations`.

    Args:
        start: W(0), (m, n), for exactly balanced factors; or the factors [W_1, ..., W_N].
        target: Phi, (m, n), in units of W.
        depth: number of layers N, an integer >= 1.
        margin: c; default, and at most, the largest that W(0) has. A smaller one allows less.

    Returns:
        The certificate; without a margin its bounds are 0.

    Raises:
        TypeError: if a matrix is complex, integer or sparse, or ``depth`` is not a number.
        ValueError: if shapes or the number of factors do not fit, if a matrix is not finite, or if
            ``margin`` is out of range.

    Source: arXiv 1810.02281, Theorem 1.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> certificate = convergence_certificate(0.95 * one, one, 2, margin=0.9)
    >>> certificate.max_lr, certificate.iterations(1e-6)
    (1.483e-05, 534215)
    """
    factors = [] if isinstance(start, Tensor) else list(start)
    weight = start if isinstance(start, Tensor) else end_to_end_product(factors)
    check_matrix(weight, "start")
    check_finite(weight, "start")
    if weight.ndim != 2:
        raise ValueError(f"start: expected one matrix but got a batch, {tuple(weight.shape)}")
    largest = deficiency_margin(weight, target).item()
    hidden = [factor.shape[0] for factor in factors[:-1]] if factors else None
    layers = len(layer_sizes(weight.shape[1], weight.shape[0], depth, hidden)) - 1
    if margin is not None and not 0 < margin <= max(largest, 0):
        raise ValueError(
            f"margin: expected 0 < c <= {largest:.3g}, the start's own, but got {margin!r}"
        )
    c = max(largest, 0.0) if margin is None else margin
    norm = torch.linalg.matrix_norm(target).item()
    delta, max_lr = _bounds(c, norm, layers)
    imbalance = balancedness(factors).max().item() if len(factors) > 1 else 0.0
    distance = torch.linalg.matrix_norm(weight - target).item()
    return ConvergenceCertificate(
        depth=layers,
        loss=distance**2 / 2,
        largest_margin=largest,
        margin=c,
        delta=delta,
        imbalance=imbalance,
        max_lr=max_lr,
        failures=tuple(_failures(largest, distance, imbalance, delta)),
    )


def _bounds(margin: float, norm: float, depth: int) -> tuple[float, float]:
    """Return the admissible imbalance and learning rate, for the Frobenius norm of Phi."""
    if not margin > 0:
        return 0.0, 0.0
    delta = margin**2 / (256 * depth**3 * norm ** (2 * (depth - 1) / depth))
    exponent = (4 * depth - 2) / depth
    return delta, margin**exponent / (6144 * depth**3 * norm ** ((6 * depth - 4) / depth))


def _failures(margin: float, distance: float, imbalance: float, delta: float) -> Iterator[str]:
    """List the assumptions that do not hold, and what to do."""
    if not margin > 0:
        yield (
            f"no deficiency margin: ||W(0) - Phi||_F = {distance:.3g} is not below "
            f"sigma_min(Phi) = {margin + distance:.3g}; start closer to the target"
        )
    elif imbalance > delta:
        yield (
            f"factors out of balance: {imbalance:.3g} is above delta = {delta:.3g}; start them by "
            "virtualdepth.balanced_factors"
        )
