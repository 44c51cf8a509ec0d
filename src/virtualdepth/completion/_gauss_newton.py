r"""Least squares on matrices of a given rank: Gauss-Newton for V, with U eliminated row by row.

Variable projection (Golub and Pereyra) with the damping of Levenberg and Marquardt: the cost is
:math:`\min_U \|y - U V^\top\|_\Omega` for orthonormal V. If the data are of that rank, the residual
falls to the rounding level in a few steps, which certifies the fit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from virtualdepth.completion._blocks import add_ridge, inverses, multiply, squares
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._two_sided import Reduced, conjugate_gradients

Array = NDArray[Any]

# Up to this many unknowns the reduced matrix is formed and factored.
DIRECT = 1500
# A step of less damping than this is nearly that of Newton: where it gains less than this part of
# the cost, the minimum is reached.
FREE, LEAST_GAIN = 5e-3, 1e-3


class LowRank(NamedTuple):
    """A fit of given rank: left right^T, right orthonormal, and its relative residual."""

    left: Array
    right: Array
    residual: float


def gauss_newton(
    entries: Entries, right: Array, *, goal: float = 1e-13, steps: int = 25, inner: int = 300
) -> LowRank:
    """Minimise from the row space of ``right``, (n, r), while steps gain.

    It ends where six steps gain less than a tenth, or one that was hardly damped a thousandth.
    """
    v = np.linalg.qr(right)[0]
    norm = np.linalg.norm(entries.values)
    u = fitted_rows(entries, v)
    residual = entries.values - entries.product(u, v)
    costs = [float(np.linalg.norm(residual) / norm)]
    damping = 1e-2
    for _ in range(steps):
        if costs[-1] < goal or (len(costs) > 6 and costs[-1] > 0.9 * costs[-7]):
            break
        step = _step_solver(entries, u, v, residual, costs[-1], inner)
        for _ in range(10):
            new = np.linalg.qr(v + step(damping))[0]
            new_u = fitted_rows(entries, new)
            new_residual = entries.values - entries.product(new_u, new)
            cost = float(np.linalg.norm(new_residual) / norm)
            if cost < costs[-1]:
                break
            damping *= 10
        else:
            break
        u, v, residual = new_u, new, new_residual
        costs.append(cost)
        if damping < FREE and cost > (1 - LEAST_GAIN) * costs[-2]:
            break
        damping = max(damping / 10, 1e-16)
    return LowRank(u, v, costs[-1])


def fitted_rows(entries: Entries, right: Array, ridge: float = 0.0) -> Array:
    """Return the rows of least squares on ``right``, (m, r)."""
    solver = inverses(add_ridge(entries.row_grams(squares(right)), ridge + 1e-14))
    u = multiply(solver, entries.times(entries.values, right))
    # once more: normal equations lose half of the digits
    rest = entries.values - entries.product(u, right)
    return u + multiply(solver, entries.times(rest, right))


def _step_solver(
    entries: Entries, u: Array, v: Array, residual: Array, cost: float, inner: int
) -> Callable[[float], Array]:
    """Return the function from damping to the step of V, (n, r)."""
    n, r = v.shape

    def project(b: Array) -> Array:
        return np.asarray(b - v @ (v.T @ b))  # directions within V change nothing

    if n * r <= DIRECT:
        matrix = reduced_matrix(entries, u, v)
        scale = np.trace(matrix) / len(matrix)
        gauged(matrix, v, scale)
        gradient = project(entries.transposed_times(residual, u)).ravel()

        def direct(damping: float) -> Array:
            damped = add_ridge(matrix.copy(), damping * scale)
            try:
                factor = cho_factor(damped.T, lower=True, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:  # it needs more damping
                return np.zeros_like(v)
            return np.reshape(cho_solve(factor, gradient, check_finite=False), (n, r))

        return direct

    scale = np.sum(u**2) / r * entries.count / entries.shape[0] / n

    def iterative(damping: float) -> Array:
        system = Reduced(entries, u, v, 0.0, damping * scale)
        forcing = min(1e-2, max(cost, 1e-6))
        return conjugate_gradients(
            system,
            system.right_hand_side(residual),
            np.zeros_like(v),
            tol=forcing,
            most=inner,
            project=project,
        )[0]

    return iterative


def reduced_matrix(entries: Entries, u: Array, v: Array) -> Array:
    """Return the Gauss-Newton matrix of V after U was eliminated, (n r, n r), as a whole."""
    n, r = v.shape
    coupling = eliminated(entries, u, v, 1e-13 * np.sum(v**2) / n * np.eye(r))[0]
    return without_coupling(entries.column_grams(squares(u)), coupling)


def without_coupling(blocks: Array, coupling: Array) -> Array:
    """Return the matrix with these blocks on its diagonal, (n, r, r), less K K^T, (n r, n r)."""
    n, r, _ = blocks.shape
    matrix: Array = -(coupling @ coupling.T)
    at = np.arange(n)
    matrix.reshape(n, r, n, r)[at, :, at, :] += blocks
    return matrix


def eliminated(entries: Entries, u: Array, v: Array, precision: Array) -> tuple[Array, Array]:
    r"""Return the coupling K of V to U, (n r, m r), and H, (m, r, r).

    :math:`H_i^\top H_i` is the inverse of the matrix of row i of U, which ``precision``, (r, r) or
    (m, r, r), is added to. :math:`K K^\top` is what the elimination of U takes from that of V.
    """
    (m, r), n = u.shape, len(v)
    half = np.linalg.inv(np.linalg.cholesky(entries.row_grams(squares(v)) + precision))
    whitened = multiply(half[entries.rows], v[entries.columns])
    coupling = np.zeros((n, r, m, r))
    coupling[entries.columns, :, entries.rows] = squares_of(u[entries.rows], whitened)
    return coupling.reshape(n * r, m * r), half


def squares_of(first: Array, second: Array) -> Array:
    """Return x y^T of each pair of rows, (m, k, k)."""
    return first[:, :, None] * second[:, None]


def gauged(matrix: Array, v: Array, scale: float) -> Array:
    """Add ``scale`` on the directions within V, which change nothing, in place."""
    n, r = v.shape
    at = np.arange(r)
    matrix.reshape(n, r, n, r)[:, at, :, at] += scale * (v @ v.T)
    return matrix
