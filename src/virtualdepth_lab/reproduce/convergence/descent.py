"""Gradient descent on the factors where Theorem 1 applies, and where an assumption is missing.

Source: arXiv 1810.02281, Theorem 1, Lemma 1, Claims 4 and 5.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    deficiency_margin,
    factor_gradients,
    guaranteed_descent,
    partial_products,
    singular_values,
)
from virtualdepth.theory import ConvergenceCertificate, convergence_certificate
from virtualdepth_lab.reproduce.result import Record

LEMMA_LR, LEMMA_STEPS = 1e-2, 3000
# below it the loss is rounding error of entries of order 1, squared
ROUNDING = 1e-24
SCALAR_EPSILON, SCALAR_START, SCALAR_MARGIN = 1e-6, 0.95, 0.9


def descend(
    factors: Sequence[Tensor], target: Tensor, lr: float | Tensor
) -> Iterator[list[Tensor]]:
    r"""Descend on :math:`\frac12 \|W_N \cdots W_1 - \Phi\|_F^2` by plain gradient descent.

    Args:
        factors: the start, W_j (..., d_j, d_{j-1}).
        target: Phi, (..., m, n).
        lr: eta, a number or (..., 1, 1).

    Yields:
        The partial products at every step, from the start on; the last is W. There is no end.
    """
    while True:
        products, factors = step_of(factors, target, lr)
        yield products


def step_of(
    factors: Sequence[Tensor], target: Tensor, lr: float | Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Take one step of :func:`descend`.

    Args:
        factors: W_j (..., d_j, d_{j-1}).
        target: Phi, (..., m, n).
        lr: eta, a number or (..., 1, 1).

    Returns:
        The partial products before, and the factors after.
    """
    products = partial_products(factors)
    gradients = factor_gradients(factors, products, products[-1] - target)
    return products, [f - lr * gradient for f, gradient in zip(factors, gradients, strict=True)]


def scalar_rows(depths: Sequence[int] = (2, 3)) -> Iterator[Record]:
    """Count steps of the scalar example, at the theorem's learning rate, against its bound.

    Args:
        depths: numbers of layers N.

    Yields:
        A row for each depth.
    """
    one = torch.ones(1, 1, dtype=torch.float64)
    for depth in depths:
        start = SCALAR_START * one
        certificate = convergence_certificate(start, one, depth, margin=SCALAR_MARGIN)
        yield {
            "part": "scalar",
            "depth": depth,
            "lr": certificate.max_lr,
            "bound": certificate.iterations(SCALAR_EPSILON),
            "steps": _scalar_steps(certificate),
        }


def _scalar_steps(certificate: ConvergenceCertificate) -> int:
    # balanced factors of a positive number are equal, and stay so; plain floats are ten times
    # faster here than tensors of one entry
    depth, lr = certificate.depth, certificate.max_lr
    factor, steps = SCALAR_START ** (1 / depth), 0
    while (factor**depth - 1) ** 2 / 2 > SCALAR_EPSILON:
        factor -= lr * (factor**depth - 1) * factor ** (depth - 1)
        steps += 1
    return steps


def with_margin(seed: int, size: int = 3) -> tuple[Tensor, Tensor]:
    """Draw a start that has a deficiency margin with respect to a random target.

    Args:
        seed: of both.
        size: rows and columns.

    Returns:
        W(0) and Phi; their distance is half the smallest singular value of Phi, which is 1/2.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(2, size, size, generator=generator, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(normal[0])
    target = u * torch.linspace(1.5, 0.5, size, dtype=torch.float64) @ vh
    return target + normal[1] * (0.25 / normal[1].norm()), target


def lemma_rows(seeds: Sequence[int], steps: int = LEMMA_STEPS) -> Iterator[Record]:
    """Count steps that take less off the loss than Lemma 1 says.

    Args:
        seeds: of the problems, 3 x 3.
        steps: of each run.

    Yields:
        A row for each depth.
    """
    starts, targets = map(torch.stack, zip(*map(with_margin, seeds), strict=True))
    for depth in (2, 3, 4):
        violations, checked = lemma_violations(starts, targets, depth, steps)
        yield {
            "part": "Lemma 1",
            "depth": depth,
            "lr": LEMMA_LR,
            "steps_checked": checked,
            "violations": violations,
        }


def lemma_violations(starts: Tensor, targets: Tensor, depth: int, steps: int) -> tuple[int, int]:
    """Descend, and hold every step to Lemma 1.

    Args:
        starts: W(0) of each run, (runs, m, n).
        targets: Phi of each run.
        depth: number of layers N.
        steps: of each run.

    Returns:
        Violations, and steps after which the loss was still above rounding error.
    """
    path = descend(balanced_factors(starts, depth), targets, LEMMA_LR)
    weights, violations, checked = next(path)[-1], 0, 0
    for _ in range(steps):
        after = next(path)[-1]
        grads = weights - targets
        losses, left = (g.square().sum((-2, -1)) / 2 for g in (grads, after - targets))
        smallest = singular_values(weights)[..., -1]
        promised = guaranteed_descent(smallest, grads, depth, LEMMA_LR)
        counts = left > ROUNDING
        violations += int(((left > losses - promised) & counts).sum())
        checked += int(counts.sum())
        weights = after
    return violations, checked


def unbalanced_rows() -> Iterator[Record]:
    """Run starts of one margin, with and without balance, at the same learning rate (Claim 4).

    Yields:
        A row for each depth and start.
    """
    one = torch.ones(1, 1, dtype=torch.float64)
    lr, large = 1e-3, 100.0  # lr * large^2 = 10 is far above the 2 of stability
    for depth in (2, 3):
        for name in ("balanced", "unbalanced"):
            factors = [large * one, SCALAR_START / large * one, *[one] * (depth - 2)]
            if name == "balanced":
                factors = balanced_factors(SCALAR_START * one, depth)
            certificate = convergence_certificate(factors, one, depth)
            yield {
                "part": "Claim 4",
                "start": name,
                "depth": depth,
                "lr": lr,
                "margin": float(deficiency_margin(SCALAR_START * one, one)),
                "imbalance": certificate.imbalance,
                "delta": certificate.delta,
                "loss": _loss_after(factors, one, lr, 10_000),
            }


def _loss_after(factors: Sequence[Tensor], target: Tensor, lr: float, steps: int) -> float:
    """Return the loss after some steps, infinity where it diverges."""
    path = descend(factors, target, lr)
    for _ in range(steps):
        weight = next(path)[-1]
        if not bool(weight.isfinite().all()):
            return math.inf
    return float((next(path)[-1] - target).square().sum()) / 2


def identity_rows(steps: int = 10_000) -> Iterator[Record]:
    """Run from the identity towards diag(1, -1) at even depths and many learning rates (Claim 5).

    Args:
        steps: of each run.

    Yields:
        A row for each depth: the smallest loss that any step of any run had.
    """
    target = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    rates = torch.tensor([10 ** (k / 4) for k in range(-12, 1)], dtype=torch.float64)
    for depth in (2, 4):
        identity = torch.eye(2, dtype=torch.float64).expand(len(rates), 2, 2)
        path = descend([identity] * depth, target, rates.view(-1, 1, 1))
        smallest = torch.full_like(rates, torch.inf)
        for _ in range(steps):
            losses = (next(path)[-1] - target).square().sum((-2, -1)) / 2
            smallest = torch.fmin(smallest, losses)
        yield {
            "part": "Claim 5",
            "depth": depth,
            "lr": f"{rates[0]:g} to {rates[-1]:g}",
            "loss": float(smallest.min()),
            "bound": 0.5,
        }
