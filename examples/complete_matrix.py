"""Fill in a low-rank matrix from a third of its entries, without and with noise.

Usage: python complete_matrix.py
"""

import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import Ridge

from virtualdepth.estimators import MatrixCompletion

SIZE, RANK, OBSERVED, NOISE = 60, 3, 1200, 0.1


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix of rank 3 and mean square 1, and a third of its entries (NaN: unknown)."""
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(SIZE, RANK)) @ generator.normal(size=(RANK, SIZE))
    truth /= np.sqrt(np.mean(truth**2))
    known = truth.copy()
    known.flat[generator.permutation(truth.size)[OBSERVED:]] = np.nan
    return truth, known


def main() -> None:
    truth, known = problem()
    missing = np.isnan(known)

    # without noise the fit is exact, and says so
    model = MatrixCompletion(random_state=0).fit(known)
    print(f"rank {model.rank_}, exact: {model.exact_}, unique: {model.unique_}")
    print(f"largest error without noise {abs(model.completed_ - truth).max():.1e}")

    # with noise it says how large the noise is, and how far off each entry may be
    noisy = known + NOISE * np.random.default_rng(1).normal(size=truth.shape)
    model.fit(noisy)
    rows, columns = np.nonzero(missing)
    found, deviation = model.predict(rows, columns, return_std=True)
    error = found - truth[missing]
    print(f"rank {model.rank_}, noise {np.sqrt(np.mean(model.noise_variance_)):.3f}")
    print(f"error with noise {np.sqrt(np.mean(error**2)):.4f}")
    means = np.nanmean(noisy, axis=0)[columns] - truth[missing]
    ridge = IterativeImputer(Ridge(2.0), max_iter=30, tol=0.01)  # the best of seven
    others = ridge.fit_transform(noisy)[missing] - truth[missing]
    print(f"IterativeImputer's with a tuned penalty {np.sqrt(np.mean(others**2)):.4f}, ", end="")
    print(f"that of column means {np.sqrt(np.mean(means**2)):.4f}")
    print(f"share in the 95 % intervals {np.mean(abs(error) <= 1.96 * deviation):.3f}")

    # a new row: its missing entries follow from the known ones, with what the fit has learned
    row = truth[:1] + truth[1:2]
    seen = np.where(np.arange(SIZE) < SIZE // 2, row, np.nan)
    away = (model.transform(seen) - row)[0, SIZE // 2 :]
    print(f"error of a new row {np.sqrt(np.mean(away**2)):.4f}")


if __name__ == "__main__":
    main()
