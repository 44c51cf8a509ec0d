"""Fill in a low-rank matrix. A third of its entries is known, with noise.

Usage: python complete_matrix.py
"""

import numpy as np
from sklearn.impute import SimpleImputer

from virtualdepth.estimators import MatrixCompletion

SIZE, RANK, OBSERVED, NOISE = 60, 3, 1200, 0.1


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix of rank 3 and mean square 1, and its noisy observations (NaN: unknown)."""
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(SIZE, RANK)) @ generator.normal(size=(RANK, SIZE))
    truth /= np.sqrt(np.mean(truth**2))
    known = truth + NOISE * generator.normal(size=truth.shape)
    known.flat[generator.permutation(truth.size)[OBSERVED:]] = np.nan
    return truth, known


def main() -> None:
    truth, known = problem()
    missing = np.isnan(known)

    model = MatrixCompletion(random_state=0)
    filled = model.fit_transform(known)
    noise = np.sqrt(model.noise_variance_.mean())
    print(f"from {model.decision_['method']}: rank {model.rank_}, noise {noise:.2g}")
    means = SimpleImputer().fit_transform(known)
    print(f"error of column means {np.mean((means - truth)[missing] ** 2):.4f}")
    print(f"error of the completion {np.mean((filled - truth)[missing] ** 2):.4f}")

    # what it says of its own error
    rows, columns = np.nonzero(missing)
    entries, std = model.predict(rows, columns, return_std=True)
    inside = np.abs(entries - truth[missing]) < 1.96 * std
    print(f"95 % intervals that hold the truth: {inside.mean():.3f}")

    # a new row: its missing entries are regressed on the known ones, with what the fit has learned
    row = truth[:1] + truth[1:2]
    seen = np.where(np.arange(SIZE) < SIZE // 2, row, np.nan)
    error = np.mean((model.transform(seen) - row)[0, SIZE // 2 :] ** 2)
    print(
        f"error of a new row {error:.4f}, against {np.mean(row[0, SIZE // 2 :] ** 2):.4f} for zeros"
    )


if __name__ == "__main__":
    main()
