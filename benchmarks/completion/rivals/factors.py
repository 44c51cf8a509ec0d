"""Factors U V^T of a chosen rank: alternating least squares, and Bayes by Gibbs sampling.

Sources: Salakhutdinov and Mnih 2008 (Bayesian probabilistic matrix factorisation, ICML).
"""

from itertools import product

import numpy as np
from benchmarks.completion.draws import Flags, Floats
from benchmarks.completion.rivals.held_out import Answer, choose

RANKS, RIDGES = (1, 2, 3, 5, 8, 12), (0.3, 3.0, 10.0)


def spectral_start(known: Floats, rank: int) -> tuple[Floats, Floats]:
    """Return balanced factors of the zero-filled matrix over the share that is known."""
    mask = ~np.isnan(known)
    u, s, vh = np.linalg.svd(np.where(mask, known, 0.0) / mask.mean(), full_matrices=False)
    return u[:, :rank] * s[:rank] ** 0.5, vh[:rank].T * s[:rank] ** 0.5


def gram_matrices(mask: Floats, factor: Floats) -> Floats:
    """Return for each row of the mask the sum of f f^T over what it has, (rows, k, k)."""
    k = factor.shape[1]
    return (mask @ (factor[:, :, None] * factor[:, None]).reshape(-1, k * k)).reshape(-1, k, k)


def ridge_rows(values: Floats, mask: Floats, factor: Floats, ridge: float) -> Floats:
    gram = gram_matrices(mask, factor) + ridge * np.eye(factor.shape[1])
    return np.linalg.solve(gram, (values @ factor)[:, :, None])[:, :, 0]


def alternating_least_squares(
    known: Floats, rank: int, ridge: float, *, sweeps: int = 200, tol: float = 1e-4
) -> Floats:
    """Minimise squared error + ridge (||U||^2 + ||V||^2), until 10 sweeps change it by < tol."""
    mask = (~np.isnan(known)).astype(float)
    values = np.nan_to_num(known)
    u, v = spectral_start(known, min(rank, *known.shape))
    norm, last = np.linalg.norm(values), np.inf
    for sweep in range(sweeps):
        u = ridge_rows(values, mask, v, ridge)
        v = ridge_rows(values.T, mask.T, u, ridge)
        if sweep % 10 == 9:
            residual = np.linalg.norm(mask * (u @ v.T) - values)
            loss = residual**2 + ridge * (np.sum(u**2) + np.sum(v**2))
            if residual < 1e-12 * norm or loss > (1 - tol) * last:
                break
            last = loss
    return u @ v.T


def als_given_rank(known: Floats, rank: int | None, seed: int) -> Answer:
    assert rank is not None
    return Answer(alternating_least_squares(known, rank, 1e-8, sweeps=2000, tol=1e-4))


def als_held_out(known: Floats, rank: int | None, seed: int) -> Answer:
    """Rank and ridge by held-out entries."""
    settings = [(r, ridge) for r, ridge in product(RANKS, RIDGES) if r < min(known.shape)]
    chosen = choose(known, seed, settings, lambda x, s: alternating_least_squares(x, *s))
    return Answer(alternating_least_squares(known, *chosen, sweeps=500, tol=1e-5), note=f"{chosen}")


def draw_prior(factor: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw mean and precision of Gaussian rows given the rows; the prior is normal-Wishart."""
    count, k = factor.shape
    mean = factor.mean(0)
    centred = factor - mean
    inverse = np.eye(k) + centred.T @ centred + count / (1 + count) * np.outer(mean, mean)
    root = np.linalg.cholesky(np.linalg.inv(inverse))
    bartlett = np.tril(rng.normal(size=(k, k)), -1)
    bartlett[np.diag_indices(k)] = np.sqrt(rng.chisquare(count + k - np.arange(k)))
    half = root @ bartlett
    precision = half @ half.T
    spread = np.linalg.solve(half.T, rng.normal(size=k)) / (1 + count) ** 0.5
    return count * mean / (1 + count) + spread, precision


def draw_rows(
    values: Floats, mask: Floats, other: Floats, old: Floats, tau: float, rng: np.random.Generator
) -> Floats:
    """Draw the rows of one factor given the other, with noise of precision tau."""
    mean, precision = draw_prior(old, rng)
    root = np.linalg.cholesky(tau * gram_matrices(mask, other) + precision)
    right = tau * (values @ other) + precision @ mean
    half = np.linalg.solve(root, right[:, :, None])
    drawn = half + rng.normal(size=half.shape)
    return np.linalg.solve(np.swapaxes(root, 1, 2), drawn)[:, :, 0]


def gibbs(known: Floats, rank: int, seed: int, *, burn: int, keep: int) -> Answer:
    """Return the posterior mean and standard deviation of every entry."""
    rng = np.random.default_rng(seed)
    hidden: Flags = np.isnan(known)
    mask, values = (~hidden).astype(float), np.nan_to_num(known)
    u, v = spectral_start(known, rank)
    count = mask.sum()
    tau = 1 / max(0.1 * np.sum(values**2) / count, 1e-12)
    total, square = np.zeros_like(values), np.zeros_like(values)
    for step in range(burn + keep):
        u = draw_rows(values, mask, v, u, tau, rng)
        v = draw_rows(values.T, mask.T, u, v, tau, rng)
        product = u @ v.T
        tau = rng.gamma(count / 2 + 1e-3) / (np.sum(mask * (values - product) ** 2) / 2 + 1e-9)
        if step >= burn:
            total, square = total + product, square + product**2
    mean = total / keep
    return Answer(mean, np.sqrt(np.maximum(square / keep - mean**2, 0)), f"rank {rank}")


def gibbs_held_out(known: Floats, rank: int | None, seed: int) -> Answer:
    """Rank by held-out entries."""
    ranks = [r for r in (2, 5, 10) if r < min(known.shape)] or [1]
    chosen = choose(known, seed, ranks, lambda x, r: gibbs(x, r, seed, burn=20, keep=30).completed)
    return gibbs(known, chosen, seed, burn=30, keep=100)
