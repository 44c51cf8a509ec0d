r"""Least squares on two given spaces: the step of the homotopy, and that of Gauss-Newton."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._blocks import add_ridge, inverses, multiply, squares
from virtualdepth.completion._entries import Entries

Array = NDArray[Any]


class Reduced:
    r"""The normal equations of least squares on two spaces.

    Minimise :math:`\|y - A W_v^\top - W_u B^\top\|^2_\Omega + \tau (\|A\|^2 + \|B\|^2)`.
    A has a closed form row by row. What is left is a positive definite system for B, (n, k), whose
    operator passes over the entries twice. ``damping`` is a further ridge on B alone.
    """

    def __init__(
        self, entries: Entries, left: Array, right: Array, ridge: float, damping: float = 0.0
    ) -> None:
        self.entries, self.left, self.right = entries, left, right
        self.ridge = ridge + damping
        rounding = 1e-13 * np.sum(right**2) / len(right)
        self._row_inverses = inverses(
            add_ridge(entries.row_grams(squares(right)), ridge + rounding)
        )
        rounding = 1e-13 * np.sum(left**2) / len(left)
        self._preconditioner = inverses(
            add_ridge(entries.column_grams(squares(left)), self.ridge + rounding)
        )

    def rows_for(self, data: Array) -> Array:
        """Return the A of least squares for data on the entries, (m, k)."""
        return multiply(self._row_inverses, self.entries.times(data, self.right))

    def without_rows(self, data: Array) -> Array:
        """Return data on the entries less what A explains of it."""
        return data - self.entries.product(self.rows_for(data), self.right)

    def right_hand_side(self, data: Array) -> Array:
        """Return what the system for B must equal, (n, k)."""
        return self.entries.transposed_times(self.without_rows(data), self.left)

    def apply(self, b: Array) -> Array:
        """Return the matrix of the system times B, (n, k)."""
        return self.right_hand_side(self.entries.product(self.left, b)) + self.ridge * b

    def precondition(self, b: Array) -> Array:
        """Solve with the diagonal blocks without the elimination of A, (n, k)."""
        return multiply(self._preconditioner, b)


def conjugate_gradients(
    system: Reduced,
    target: Array,
    start: Array,
    *,
    tol: float,
    most: int,
    project: Callable[[Array], Array] = lambda b: b,
    done: Callable[[Array], bool] = lambda b: False,
) -> tuple[Array, int]:
    """Solve system B = target within the range of a projection; return B and the steps taken.

    It ends at a preconditioned residual of ``tol`` of that of zero, after ``most`` steps, or when
    ``done`` says so of B.
    """
    target = project(target)
    first = np.vdot(target, system.precondition(target))
    b = start.copy()
    residual = target - project(system.apply(b)) if start.any() else target
    z = project(system.precondition(residual))
    direction, size = z, np.vdot(residual, z)
    for step in range(most):
        if not size > tol**2 * first or done(b):
            return b, step
        image = project(system.apply(direction))
        curvature = np.vdot(direction, image)
        if not curvature > 0:  # rounding ended it
            return b, step
        b = b + (size / curvature) * direction
        residual = residual - (size / curvature) * image
        z = project(system.precondition(residual))
        size, last = np.vdot(residual, z), size
        direction = z + (size / last) * direction
    return b, most
