"""Iteratively reweighted least squares with the rank given, dense.

X_{t+1} minimises <X, W_t(X)> over the matrices that fit. In the singular basis of X_t the inverse
weight of u_i v_k^T is a mean of s_i^2 and s_k^2, s = max(sigma, eps), and eps is at most the
(rank + 1)-th singular value. MatrixIRLS takes the geometric mean (Kuemmerle and Mayrink Verdun
2021, arXiv 2106.02119), HM-IRLS the arithmetic one (Kuemmerle and Sigl 2018, arXiv 1703.05038).
"""

from typing import Literal

import numpy as np
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals.held_out import Answer
from scipy.linalg import cho_factor, cho_solve

Mean = Literal["geometric", "arithmetic"]


def reweighted_step(known: Floats, x: Floats, eps: float, mean: Mean) -> Floats:
    (m, n), (rows, columns) = x.shape, np.nonzero(~np.isnan(known))
    u, sigma, vh = np.linalg.svd(x)
    left, right = np.full(m, eps), np.full(n, eps)
    left[: len(sigma)] = right[: len(sigma)] = np.maximum(sigma, eps)
    if mean == "geometric":
        weights = np.outer(left, right)
        on_rows, on_columns = (u * left) @ u.T, (vh.T * right) @ vh
        system = on_rows[np.ix_(rows, rows)] * on_columns[np.ix_(columns, columns)]
    else:
        weights = (left[:, None] ** 2 + right**2) / 2
        on_rows, on_columns = (u * left**2) @ u.T / 2, (vh.T * right**2) @ vh / 2
        system = on_rows[np.ix_(rows, rows)] * (columns[:, None] == columns)
        system += on_columns[np.ix_(columns, columns)] * (rows[:, None] == rows)
    system[np.diag_indices_from(system)] += 1e-14 * system.diagonal().max()
    multiplier = np.zeros((m, n))
    multiplier[rows, columns] = cho_solve(cho_factor(system), known[rows, columns])
    return u @ (weights * (u.T @ multiplier @ vh.T)) @ vh


def reweighted(known: Floats, rank: int, mean: Mean, steps: int = 300) -> Answer:
    x = np.nan_to_num(known)
    top = eps = float(np.linalg.norm(x, 2))
    for step in range(1, steps + 1):
        try:
            new = reweighted_step(known, x, eps, mean)
        except np.linalg.LinAlgError:  # at the end weights differ by more than rounding bears
            break
        change = np.linalg.norm(new - x) / np.linalg.norm(new)
        x = new
        eps = min(eps, float(np.linalg.svd(x, compute_uv=False)[rank]))
        if eps < 1e-7 * top or (step > 2 and change < 1e-9):
            break
    return Answer(x, note=f"{step} steps")


def matrix_irls(known: Floats, rank: int | None, seed: int) -> Answer:
    assert rank is not None
    return reweighted(known, rank, "geometric")


def harmonic_irls(known: Floats, rank: int | None, seed: int) -> Answer:
    assert rank is not None
    return reweighted(known, rank, "arithmetic")
