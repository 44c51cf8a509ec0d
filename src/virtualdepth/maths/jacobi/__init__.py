"""Singular vectors that follow a matrix by Jacobi sweeps: matrix products in place of an SVD."""

from virtualdepth.maths.jacobi._basis import (
    Basis,
    exact_basis,
    precondition_in_basis,
    predicted_rows,
)
from virtualdepth.maths.jacobi._fingerprint import fingerprint, fingerprint_differs
from virtualdepth.maths.jacobi._sweep import (
    MAX_RESIDUAL,
    Swept,
    sweep,
    sweep_async,
    without_sweep,
)

__all__ = [
    "MAX_RESIDUAL",
    "Basis",
    "Swept",
    "exact_basis",
    "fingerprint",
    "fingerprint_differs",
    "precondition_in_basis",
    "predicted_rows",
    "sweep",
    "sweep_async",
    "without_sweep",
]
