"""The check written out in numpy: the rule as a sum over j, the network by the chain rule."""

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Step:
    """What the module logs at one step: losses before it, the others after."""

    loss_single: float
    loss_deep: float
    gap: float
    balancedness: float


def loss_and_gradient(weight: Array, x: Array, y: Array, p: float) -> tuple[float, Array]:
    residual = x @ weight.T - y
    loss = np.mean([sum(abs(r) ** p for r in row) / p for row in residual])
    return float(loss), (np.sign(residual) * np.abs(residual) ** (p - 1)).T @ x / len(x)


def rule(weight: Array, gradient: Array, depth: int) -> Array:
    """P_W(G) = sum over j of [W W^T]^{(N-j)/N} G [W^T W]^{(j-1)/N}, in the full singular bases."""
    u, s, vh = np.linalg.svd(weight, full_matrices=True)
    left = np.zeros(u.shape[0])
    right = np.zeros(vh.shape[0])
    left[: len(s)] = right[: len(s)] = s**2
    return sum(
        (u * left ** ((depth - j) / depth))
        @ u.T
        @ gradient
        @ vh.T
        @ (right[:, None] ** ((j - 1) / depth) * vh)
        for j in range(1, depth + 1)
    )


def split(weight: Array, widths: list[int]) -> list[Array]:
    """Balanced factors with product W through hidden layers of these widths."""
    depth = len(widths) + 1
    u, s, vh = np.linalg.svd(weight, full_matrices=False)
    root = np.diag(s ** (1 / depth))
    factors = []
    sizes = [weight.shape[1], *widths, weight.shape[0]]
    for j in range(depth):
        core = (u if j == depth - 1 else np.eye(len(s))) @ root
        core = core @ (vh if j == 0 else np.eye(len(s)))
        factor = np.zeros((sizes[j + 1], sizes[j]))
        factor[: core.shape[0], : core.shape[1]] = core
        factors.append(factor)
    return factors


def product(factors: list[Array]) -> Array:
    return reduce(lambda before, factor: factor @ before, factors)


def run(
    weight: Array,
    widths: list[int],
    x: Array,
    y: Array,
    *,
    lr: float,
    steps: int,
    p: float,
    optimizer_depth: int,
) -> tuple[Array, list[Step]]:
    """Train both models from ``weight``; return the single one's end and what each step logs."""
    factors = split(weight, widths)
    log = []
    for _ in range(steps):
        loss_single, gradient = loss_and_gradient(weight, x, y, p)
        weight = weight - lr * rule(weight, gradient, optimizer_depth)

        loss_deep, gradient = loss_and_gradient(product(factors), x, y, p)
        below = [np.eye(x.shape[1])]
        for factor in factors[:-1]:
            below.append(factor @ below[-1])
        above = [np.eye(y.shape[1])]
        for factor in factors[:0:-1]:
            above.insert(0, above[0] @ factor)
        factors = [
            factor - lr * up.T @ gradient @ down.T
            for factor, up, down in zip(factors, above, below, strict=True)
        ]

        end = product(factors)
        defects = [
            np.linalg.norm(after.T @ after - before @ before.T)
            for before, after in pairwise(factors)
        ]
        gap = np.linalg.norm(weight - end) / np.linalg.norm(end)
        log.append(Step(loss_single, loss_deep, float(gap), float(max(defects))))
    return weight, log
