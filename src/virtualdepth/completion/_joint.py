r"""Covariances of the rows of both factors at once.

Variational Bayes takes rows as known where it finds the variance of columns, and the reverse: its
variances are too small where entries are few. Here the posterior of U and V together is a Gaussian
whose precision is that of Gauss-Newton, with the priors: MacKay, "A practical Bayesian framework
for backpropagation networks", Neural Computation 4, 1992. What changes factors but not their
product is held, so that the covariance between a row and a column is small and can be left out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._bayes import Posterior
from virtualdepth.completion._blocks import squares
from virtualdepth.completion._entries import Entries
from virtualdepth.completion._gauss_newton import eliminated, gauged, without_coupling

Array = NDArray[Any]

# Up to this many numbers in both factors their precision is inverted as a whole.
UNKNOWNS = 4000


def joint_covariances(entries: Entries, posterior: Posterior) -> tuple[Array, Array]:
    """Return the covariances of rows, (m, k, k), and columns, (n, k, k); a copy if too large."""
    covariances = posterior.left_covariance, posterior.right_covariance
    if sum(factor.size for factor in (posterior.left, posterior.right)) > UNKNOWNS:
        return covariances
    noise, size = (numbers[:, None, None] for numbers in (posterior.noise, posterior.scale**2))
    rows = np.broadcast_to(posterior.prior.precision, covariances[0].shape)
    columns = posterior.right_prior.precision * (noise / size)
    # columns in units of their noise
    right = posterior.right / posterior.noise[:, None] ** 0.5
    sides = (posterior.left, right), (rows, columns)
    if entries.shape[0] >= entries.shape[1]:
        rows, columns = _covariances(entries, *sides[0], *sides[1])
    else:
        columns, rows = _covariances(entries.transposed, *sides[0][::-1], *sides[1][::-1])
    return rows, columns * noise


def _covariances(
    entries: Entries, u: Array, v: Array, u_precision: Array, v_precision: Array
) -> tuple[Array, Array]:
    """Return the covariances of rows and columns for entries of noise 1, by elimination of rows."""
    (m, k), n = u.shape, len(v)
    coupling, half = eliminated(entries, u, v, u_precision)
    matrix = without_coupling(entries.column_grams(squares(u)) + v_precision, coupling)
    gauged(matrix, v / np.linalg.norm(v, 2), np.trace(matrix) / len(matrix))
    inverse = np.linalg.inv(matrix)
    through = (inverse @ coupling).reshape(n * k, m, k)
    extra = np.einsum("xia,xib->iab", coupling.reshape(n * k, m, k), through)
    rows = half.swapaxes(1, 2) @ (np.eye(k) + extra) @ half
    at = np.arange(n)
    return rows, inverse.reshape(n, k, n, k)[at, :, at, :]
