"""The rule, written again from the paper and from torch.optim.SGD's documentation, with numpy.

Nothing here calls the package: singular vectors come from a full decomposition, and the kernel from
the quotient of arXiv 1802.06509, equation 35, which is safe where singular values are well apart.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def kernel(a: Array, b: Array, depth: float) -> Array:
    """(a^2 - b^2) / (a^{2/N} - b^{2/N}), and its limit where a = b; K/N at N = inf."""
    if math.isinf(depth):
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = (a**2 - b**2) / (2 * np.log(a) - 2 * np.log(b))
        return np.where(a == b, a**2, np.where((a == 0) | (b == 0), 0, quotient))
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = (a**2 - b**2) / (a ** (2 / depth) - b ** (2 / depth))
    return np.where(a == b, depth * np.where(a == 0, 0, a) ** (2 - 2 / depth), quotient)


def preconditioned(weight: Array, grad: Array, depth: float) -> Array:
    rows, columns = weight.shape
    u, sigma, vh = np.linalg.svd(weight, full_matrices=True)
    left, right = np.zeros(rows), np.zeros(columns)
    left[: len(sigma)] = right[: len(sigma)] = sigma
    k = np.ones((rows, columns)) if depth == 1 else kernel(left[:, None], right[None, :], depth)
    return u @ (k * (u.T @ grad @ vh.T)) @ vh


def preconditioned_term_by_term(weight: Array, grad: Array, depth: int) -> Array:
    """The sum over j of Theorem 1; a zero singular value is 0 here, not the root of rounding."""
    rows, columns = weight.shape
    u, sigma, vh = np.linalg.svd(weight, full_matrices=True)
    left, right = np.zeros(rows), np.zeros(columns)
    left[: len(sigma)] = right[: len(sigma)] = sigma
    total = np.zeros_like(weight)
    for j in range(1, depth + 1):  # 0 to the power 0 is 1: a power 0 is the identity
        before = (u * left ** (2 * (depth - j) / depth)) @ u.T
        after = (vh.T * right ** (2 * (j - 1) / depth)) @ vh
        total += before @ grad @ after
    return total


@dataclass
class Truth:
    """One matrix under the rule; the options are those of the optimizer."""

    weight: Array
    lr: float
    depth: float
    momentum: float = 0
    dampening: float = 0
    weight_decay: float = 0
    nesterov: bool = False
    maximize: bool = False
    velocity: Array | None = field(default=None)

    def step(self, grad: Array) -> None:
        shape = self.weight.shape
        weight = self.weight.reshape(shape[0], -1)
        layers = 1 if math.isinf(self.depth) else self.depth
        sign = -1 if self.maximize else 1
        d = sign * preconditioned(weight, grad.reshape(weight.shape), self.depth)
        d = d + layers * self.weight_decay * weight
        if self.momentum:
            if self.velocity is None:
                self.velocity = d
            else:
                self.velocity = self.momentum * self.velocity + (1 - self.dampening) * d
            d = d + self.momentum * self.velocity if self.nesterov else self.velocity
        self.weight = (weight - self.lr * d).reshape(shape)
