r"""Iteratively reweighted least squares whose weight is the rule of depth N, with eps falling.

Among the matrices that fit, a step minimises :math:`\langle X, P^{-1}(X)\rangle` for :math:`P(Z) =
H_L Z + Z H_R`, :math:`H_L = U \max(\sigma, \epsilon)^{2-p} U^\top + \epsilon^{2-p} (I - U
U^\top)`, :math:`p = 2/N`, of the last X. With :math:`W_u = U (\sigma^{2-p} -
\epsilon^{2-p})^{1/2}` it is: minimise :math:`\|E\|^2 / (2 \epsilon^{2-p}) + \|A\|^2 + \|B\|^2`
over :math:`A W_v^\top + W_u B^\top + E = Y` on the entries. Harmonic mean weights: Kümmerle and
Sigl, arXiv 1703.05038. Offsets of columns are :math:`1 b^\top` beside X, and cost next to nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from virtualdepth.completion._entries import Entries
from virtualdepth.completion._two_sided import Reduced, conjugate_gradients
from virtualdepth.completion._watch import Watch, unwatched

Array = NDArray[Any]

# Up to this size LAPACK's whole SVD is faster than Lanczos for a few triples.
WHOLE_SVD = 400
# How many entries hold the offset of a column at that of the step before.
HOLD = 1e-2


class Point(NamedTuple):
    """A point of the path: the leading singular triples of X and eps.

    Attributes:
        u: (m, k).
        sigma: (k,), the largest first.
        v: (n, k).
        eps: the scale below which singular values count as noise.
        inside: how many exceeded eps in the step before.
        offset: of the columns, beside X, (n,).
    """

    u: Array
    sigma: Array
    v: Array
    eps: float
    inside: int
    offset: Array


class Path(NamedTuple):
    """How a path is walked.

    Attributes:
        width: how many singular triples are kept.
        decay: factor of eps from step to step.
        share: the share of the entries, at random, whose SVD is the start.
        seed: of that choice and of the random vectors of the power steps.
        depth: N, may be inf.
        least: the eps at which it ends, in units of the largest singular value.
        steps: the most conjugate gradients of a step.
        offset: whether columns have offsets beside X.
    """

    width: int
    decay: float = 0.6
    share: float = 1.0
    seed: int = 0
    depth: float = np.inf
    least: float = 1e-6
    steps: int = 100
    offset: bool = False


def homotopy(entries: Entries, path: Path, watch: Watch = unwatched) -> Iterator[Point]:
    """Walk the path; each point is whole when it is given out."""
    random = np.random.default_rng(path.seed)
    power = 2 - 2 / path.depth
    u, sigma, v = leading_of_entries(entries, path.width, random, path.share)
    top = sigma[0]
    eps = path.decay * top
    ones, offset = np.ones((len(u), 1)), np.zeros(entries.shape[1])
    while eps > path.least * top:
        inside = max(1, int((sigma > eps).sum()))
        inner = sigma[:inside]
        square = np.maximum(inner**power - eps**power, 1e-6 * inner**power)
        weight = square**0.5
        left, right = u[:, :inside] * weight, v[:, :inside] * weight
        ridge = 2 * eps**power
        start = v[:, :inside] * (inner / weight / 2)
        data, one = entries.values, (ridge / HOLD) ** 0.5
        if path.offset:  # its change is one more direction
            data = data - entries.product(ones, offset[:, None])
            left = np.concatenate([left, one * ones], 1)
            start = np.concatenate([start, np.zeros((len(v), 1))], 1)
        system = Reduced(entries, left, right, ridge)
        b, _ = conjugate_gradients(
            system, system.right_hand_side(data), start, tol=1e-2, most=path.steps
        )
        rest = data - entries.product(left, b)
        a = system.rows_for(rest)
        rest = rest - entries.product(a, right)
        if path.offset:
            offset = offset + one * b[:, -1]
            left, b = left[:, :-1], b[:, :-1]
        u, sigma, v = leading_of_sum(entries, (a, right), (left, b), rest, path.width, random)
        if not np.isfinite(sigma).all():
            return
        watch("homotopy", u * sigma, v)
        yield Point(u, sigma, v, eps, inside, offset)
        eps *= path.decay


def leading_of_sum(
    entries: Entries,
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    rest: Array,
    width: int,
    random: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Return the leading singular triples of two products of factors and data on the entries.

    Two power steps from the right spaces of the products and a few random vectors.
    """
    (a, v), (u, b) = first, second
    n = entries.shape[1]
    basis = np.concatenate([v, b, random.normal(size=(n, 8))], 1)[:, :n]
    for _ in range(2):
        basis = np.linalg.qr(basis)[0]
        image = a @ (v.T @ basis) + u @ (b.T @ basis) + entries.times(rest, basis)
        left = np.linalg.qr(image)[0]
        basis = v @ (a.T @ left) + b @ (u.T @ left) + entries.transposed_times(rest, left)
    right, sigma, rotation = np.linalg.svd(basis, full_matrices=False)
    return left @ rotation[:width].T, sigma[:width], right[:, :width]


def leading_of_entries(
    entries: Entries, width: int, random: np.random.Generator, share: float = 1.0
) -> tuple[Array, Array, Array]:
    """Return the leading singular triples of the entries, or of a random share, and zeros."""
    values = entries.listed
    if share < 1:
        values = np.where(random.random(len(values)) < share, values, 0.0)
    matrix = csr_matrix((values, (entries.rows, entries.columns)), shape=entries.shape)
    small = min(entries.shape)
    if small <= WHOLE_SVD or width >= small // 2:
        u, sigma, vh = np.linalg.svd(matrix.toarray(), full_matrices=False)
        return u[:, :width], sigma[:width], vh[:width].T
    start = random.normal(size=small)
    u, sigma, vh = svds(matrix, k=width, v0=start, tol=1e-3)
    return u[:, ::-1], sigma[::-1], vh[::-1].T
