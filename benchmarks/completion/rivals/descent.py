"""Factors of given rank by Gauss-Newton and by scaled gradient descent.

Sources: Zilber and Nadler 2022, arXiv 2106.12933 (GNMR, its setting variant); Tong, Ma and Chi
2021, arXiv 2005.08898 (ScaledGD).
"""

import numpy as np
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals.factors import spectral_start
from benchmarks.completion.rivals.held_out import Answer
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import lsqr


def gauss_newton(known: Floats, rank: int | None, seed: int) -> Answer:
    """X ~ U V'^T + U' V^T - U V^T, with the new factors U', V' of smallest norm."""
    assert rank is not None
    (m, n), (rows, columns) = known.shape, np.nonzero(~np.isnan(known))
    y = known[rows, columns]
    left, _, right = np.linalg.svd(np.nan_to_num(known), full_matrices=False)
    u, v = left[:, :rank], right[:rank].T
    entry = np.arange(len(y)).repeat(rank)
    at_u = (rows[:, None] * rank + np.arange(rank)).ravel()
    at_v = (m * rank + columns[:, None] * rank + np.arange(rank)).ravel()
    places = np.tile(entry, 2), np.concatenate([at_u, at_v])
    norm, best, old = np.linalg.norm(y), (np.inf, np.zeros((m, n))), u @ v.T
    for _ in range(60):
        data = np.concatenate([v[columns].ravel(), u[rows].ravel()])
        linear = csr_matrix((data, places), shape=(len(y), rank * (m + n)))
        goal = y + np.einsum("ij,ij->i", u[rows], v[columns])
        found, _, _, residual = lsqr(linear, goal, atol=1e-15, btol=1e-15, iter_lim=1000)[:4]
        new_u, new_v = found[: m * rank].reshape(m, rank), found[m * rank :].reshape(n, rank)
        if residual / norm < best[0]:
            best = (residual / norm, u @ new_v.T + new_u @ v.T - u @ v.T)
        u, v = new_u, new_v
        new = u @ v.T
        change = np.linalg.norm(new - old) / np.linalg.norm(new)
        old = new
        if residual / norm < 1e-13 or change < 1e-12:
            break
    a, s, bh = np.linalg.svd(best[1])
    return Answer((a[:, :rank] * s[:rank]) @ bh[:rank])


def scaled_gradient(known: Floats, rank: int | None, seed: int) -> Answer:
    """Descend by gradients times the inverse Gram matrix of the other factor.

    Steps are halved where the loss would rise: the published step of 0.5 diverges below rho = 3.
    """
    assert rank is not None
    mask = ~np.isnan(known)
    y, share = np.nan_to_num(known), mask.mean()
    u, v = spectral_start(known, rank)
    norm, small, rate = np.linalg.norm(y), 1e-12 * np.eye(rank), 0.5
    residual = mask * (u @ v.T) - y
    losses = [np.linalg.norm(residual) / norm]
    for step in range(3000):
        on_u = residual @ v @ np.linalg.inv(v.T @ v + small) / share
        on_v = residual.T @ u @ np.linalg.inv(u.T @ u + small) / share
        while rate > 1e-9:
            new_u, new_v = u - rate * on_u, v - rate * on_v
            new_residual = mask * (new_u @ new_v.T) - y
            loss = np.linalg.norm(new_residual) / norm
            if loss < losses[-1]:
                break
            rate /= 2
        else:
            break
        u, v, residual, rate = new_u, new_v, new_residual, min(1.1 * rate, 1.0)
        losses.append(loss)
        if loss < 1e-13 or (step > 200 and loss > 0.999 * losses[-200]):
            break
    return Answer(u @ v.T, note=f"{len(losses)} steps")
