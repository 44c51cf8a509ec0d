"""Gradient descent on the factors where Theorem 1 applies, and where an assumption is missing.

Source: arXiv 1810.02281, Theorem 1, Lemma 1, Claims 4 and 5; arXiv 1605.07110, Theorem 2.3 (the
saddle at 0).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    deficiency_margin,
    end_to_end_product,
    guaranteed_descent,
    singular_values,
)
from virtualdepth.theory import ConvergenceCertificate, convergence_certificate
from virtualdepth_lab.reproduce.convergence.problem import with_margin
from virtualdepth_lab.reproduce.network import descend
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.search import quarter_decade

LEMMA_LR, LEMMA_STEPS = 1e-2, 3000
# below it the loss is rounding error of entries of order 1, squared
ROUNDING = 1e-24
SCALAR_EPSILON, SCALAR_START, SCALAR_MARGIN = 1e-6, 0.95, 0.9


def descend_to(factors: Sequence[Tensor], target: Tensor, lr: float | Tensor) -> Iterator[Tensor]:
    r"""Yield W at every step of descent on :math:`\frac12 \|W - \Phi\|_F^2`, without end."""
    return descend(factors, lambda weight: weight - target, lr)


def scalar_rows(depths: Sequence[int] = (2, 3)) -> Iterator[Record]:
    """Count steps of the scalar example, at the theorem's learning rate, against its bound."""
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
    # balanced factors of a positive number are equal and stay equal; plain floats are ten times
    # faster here than tensors of one entry
    depth, lr = certificate.depth, certificate.max_lr
    factor, steps = SCALAR_START ** (1 / depth), 0
    while (factor**depth - 1) ** 2 / 2 > SCALAR_EPSILON:
        factor -= lr * (factor**depth - 1) * factor ** (depth - 1)
        steps += 1
    return steps


def lemma_rows(seeds: Sequence[int], steps: int = LEMMA_STEPS) -> Iterator[Record]:
    """Count steps that take less off the loss than Lemma 1 says, on 3 x 3 problems."""
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
    """Check every step of runs from W(0) to Phi, both (runs, m, n), against Lemma 1.

    Returns the violations, and the steps after which the loss was still above rounding error.
    """
    path = descend_to(balanced_factors(starts, depth), targets, LEMMA_LR)
    weights, violations, checked = next(path), 0, 0
    for after in islice(path, steps):
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
    """Train from starts of one margin, balanced and not, at the same learning rate (Claim 4)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    lr, large = 1e-3, 100.0  # lr * large^2 = 10, far above the 2 of stability
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
    """Return the loss after some steps, infinity where training diverges."""
    for weight in islice(descend_to(factors, target, lr), steps + 1):
        if not bool(weight.isfinite().all()):
            return math.inf
    return float((weight - target).square().sum()) / 2


def identity_rows(steps: int = 10_000) -> Iterator[Record]:
    """Train from the identity towards diag(1, -1) at even depths and many rates (Claim 5).

    A row holds the smallest loss that any step of any run had.
    """
    target = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    rates = torch.tensor([quarter_decade(k) for k in range(-12, 1)], dtype=torch.float64)
    for depth in (2, 4):
        identity = torch.eye(2, dtype=torch.float64).expand(len(rates), 2, 2)
        smallest = torch.full_like(rates, torch.inf)
        path = descend_to([identity] * depth, target, rates.view(-1, 1, 1))
        for weights in islice(path, steps):
            losses = (weights - target).square().sum((-2, -1)) / 2
            smallest = torch.fmin(smallest, losses)
        yield {
            "part": "Claim 5",
            "depth": depth,
            "lr": f"{rates[0]:g} to {rates[-1]:g}",
            "loss": float(smallest.min()),
            "bound": 0.5,
        }


def saddle_rows(seeds: Sequence[int]) -> Iterator[Record]:
    r"""Compute the least eigenvalue of the Hessian where all layers are 0, on 3 x 3 problems.

    Of :math:`\frac12 \|W_N \cdots W_1 - \Phi\|_F^2` in all layers together. The gradient in W is
    :math:`-\Phi` there.
    """
    for seed in seeds:
        _, target = with_margin(seed)
        for depth in (2, 3, 4):
            yield {
                "part": "saddle at 0",
                "depth": depth,
                "seed": seed,
                "least_eigenvalue": least_eigenvalue_at_zero(target, depth),
                "sigma_1": float(singular_values(target)[0]),
            }


def least_eigenvalue_at_zero(target: Tensor, depth: int) -> float:
    """Differentiate the loss of square layers twice at 0, by automatic differentiation."""

    def loss(layers: Tensor) -> Tensor:
        product = end_to_end_product(list(layers.view(depth, *target.shape)))
        return (product - target).square().sum() / 2

    zeros = target.new_zeros(depth * target.numel())
    hessian = torch.autograd.functional.hessian(loss, zeros)  # type: ignore[no-untyped-call]
    return float(torch.linalg.eigvalsh(hessian)[0])
