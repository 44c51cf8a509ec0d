"""The rule in mpmath, to 60 digits: what the fast versions are compared with.

Two ways that share neither formula nor decomposition: `preconditioned` scales in singular bases by
the quotient form of the kernel, `literally` sums powers of Gram matrices.
"""

import math
from functools import cache
from typing import NamedTuple

import mpmath as mp
import torch
from torch import Tensor

DIGITS = 60


class Decomposition(NamedTuple):
    """A thin SVD in mpmath: u (m x k), sigma (k), v (n x k)."""

    u: mp.matrix
    sigma: list[mp.mpf]
    v: mp.matrix


def to_mp(tensor: Tensor) -> mp.matrix:
    """Convert without rounding: a float has at most 53 bits."""
    return mp.matrix(tensor.tolist())


def to_tensor(matrix: mp.matrix) -> Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix.tolist()], dtype=torch.float64)


def frobenius(matrix: mp.matrix) -> mp.mpf:
    return mp.sqrt(mp.fsum(x * x for x in matrix))


def relative_error(result: Tensor, truth: mp.matrix) -> float:
    """||result - truth||_F / ||truth||_F, the difference taken in 60 digits."""
    with mp.workdps(DIGITS):
        size = frobenius(truth)
        error = frobenius(to_mp(result.double()) - truth)
        return float(error / size) if size else float(error)


@cache
def kernel(a: mp.mpf, b: mp.mpf, depth: float) -> mp.mpf:
    """K(a, b) = (a^2 - b^2) / (a^{2/N} - b^{2/N}), or its limits.

    At 150 digits the quotient keeps 60 of them even where a and b differ in the 60th.
    """
    high, low = max(a, b), min(a, b)
    if depth == 1:
        return mp.mpf(1)
    with mp.workdps(150):
        if math.isinf(depth):
            if high == low:
                return high**2
            return (high**2 - low**2) / (2 * mp.log(high / low)) if low else mp.mpf(0)
        n = mp.mpf(depth)
        if high == low:
            return n * high ** (2 - 2 / n) if high else mp.mpf(0)
        return (high**2 - low**2) / (high ** (2 / n) - low ** (2 / n))


def kernel_sum(a: float, b: float, depth: int) -> mp.mpf:
    """K by its definition, the sum over the layers."""
    with mp.workdps(DIGITS):
        a, b, n = mp.mpf(a), mp.mpf(b), mp.mpf(depth)
        return mp.fsum(a ** (2 * (n - j) / n) * b ** (2 * (j - 1) / n) for j in range(1, depth + 1))


def decompose(weight: Tensor) -> Decomposition:
    with mp.workdps(DIGITS):
        matrix = to_mp(weight)
        if matrix.rows > matrix.cols:
            v, sigma, ut = mp.svd_r(matrix.T)
            return Decomposition(ut.T, list(sigma), v)
        u, sigma, vt = mp.svd_r(matrix)
        return Decomposition(u, list(sigma), vt.T)


def decompose_permuted_diagonal(weight: Tensor) -> Decomposition:
    """Read the SVD off a matrix with one entry at most in each row and column: zeros are exact."""
    (m, n), k = weight.shape, min(weight.shape)
    places = weight.nonzero().tolist()
    free_rows = sorted(set(range(m)) - {i for i, _ in places})
    free_columns = sorted(set(range(n)) - {j for _, j in places})
    places += list(zip(free_rows, free_columns, strict=False))[: k - len(places)]
    u, v = mp.zeros(m, k), mp.zeros(n, k)
    entries = [mp.mpf(weight[i, j].item()) for i, j in places]
    for index, ((i, j), entry) in enumerate(zip(places, entries, strict=True)):
        u[i, index], v[j, index] = (-1 if entry < 0 else 1), 1
    return Decomposition(u, [abs(entry) for entry in entries], v)


def preconditioned(
    parts: Decomposition, grad: Tensor, depth: float, rtol: float = 0.0
) -> mp.matrix:
    """P_W(G): G's part between the singular vectors times K(s_r, s_t), the rest times K(s_r, 0)."""
    u, sigma, v = parts
    if u.rows > v.rows:
        return preconditioned(Decomposition(v, sigma, u), grad.T, depth, rtol).T
    with mp.workdps(DIGITS):
        if depth == 1:
            return to_mp(grad)
        cut = rtol * max(sigma)
        sigma = [s if s > cut else mp.mpf(0) for s in sigma]
        projected, vt = u.T * to_mp(grad), v.T
        core = projected * v
        rest = projected - core * vt
        for r, s in enumerate(sigma):
            for t in range(len(sigma)):
                core[r, t] *= kernel(s, sigma[t], depth)
            for column in range(rest.cols):
                rest[r, column] *= kernel(s, mp.mpf(0), depth)
        return u * (core * vt + rest)


def _powers(gram: mp.matrix, depth: int) -> list[mp.matrix]:
    """[A]^{j/N} for j = 0, ..., N-1, through the eigenvalues of A; the identity at j = 0."""
    values, vectors = mp.eigsy(gram)
    floor = max(values) * mp.mpf(10) ** (10 - DIGITS)  # the noise of zero eigenvalues
    values = [x if x > floor else mp.mpf(0) for x in values]
    return [mp.eye(gram.rows)] + [
        vectors * mp.diag([x ** (mp.mpf(j) / depth) for x in values]) * vectors.T
        for j in range(1, depth)
    ]


def literally(weight: Tensor, grad: Tensor, depth: int) -> mp.matrix:
    """sum_j [W W^T]^{(N-j)/N} G [W^T W]^{(j-1)/N}, as Theorem 1 has it."""
    with mp.workdps(DIGITS):
        w, g = to_mp(weight), to_mp(grad)
        left, right = _powers(w * w.T, depth), _powers(w.T * w, depth)
        total = mp.zeros(w.rows, w.cols)
        for j in range(1, depth + 1):
            total += left[depth - j] * g * right[j - 1]
        return total


@cache
def small_square(sigma: float, depth: float, imbalance: float) -> mp.mpf:
    """The root t >= 0 of t (t + lambda)^(N-1) = sigma^2, by bisection of ln t and Newton steps."""
    with mp.workdps(DIGITS + 15):
        n, lam = mp.mpf(depth), mp.mpf(imbalance)
        if sigma == 0:
            return mp.mpf(0)
        log = 2 * mp.log(mp.mpf(sigma))

        def excess(u: mp.mpf) -> mp.mpf:
            return u + (n - 1) * mp.log(mp.exp(u) + lam) - log

        low, high = log - n * abs(mp.log(lam)) - n, log / n
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if excess(middle) > 0 else (middle, high)
        u = (low + high) / 2
        for _ in range(12):
            t = mp.exp(u)
            u -= excess(u) / (1 + (n - 1) * t / (t + lam))
        assert abs(excess(u)) < mp.mpf(10) ** -DIGITS
        return mp.exp(u)


def gain_rate(sigma: float, depth: float, imbalance: float) -> mp.mpf:
    """F'(t) = (t + lambda)^(N-1) + (N - 1) t (t + lambda)^(N-2)."""
    with mp.workdps(DIGITS):
        t, n = small_square(sigma, depth, imbalance), mp.mpf(depth)
        p = t + mp.mpf(imbalance)
        return p ** (n - 1) + (n - 1) * t * p ** (n - 2)


def unbalanced_kernel(a: float, b: float, depth: float, imbalance: float) -> mp.mpf:
    """K(a, b) = (a^2 - b^2) / (t(a) - t(b)), or F' where a = b."""
    if a == b:
        return gain_rate(a, depth, imbalance)
    with mp.workdps(DIGITS + 15):
        squares = [small_square(each, depth, imbalance) for each in (a, b)]
        return (mp.mpf(a) ** 2 - mp.mpf(b) ** 2) / (squares[0] - squares[1])
