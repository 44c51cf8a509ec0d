"""What a fit learnt, and what follows from it: entries, their variances, new rows."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from virtualdepth.completion import Prior, entry_variances, factored_svd, inner_products
from virtualdepth.estimators._entries import places_of
from virtualdepth.maths import complete_rows, effective_rank_of_spectrum

Array = NDArray[Any]

# Entries whose covariances are gathered at once.
CHUNK = 50_000
# Parts in which a score leaves out the entries of a row.
FOLDS = 5


class Learned(NamedTuple):
    """A table centre + left right^T, in the units of its columns.

    Attributes:
        centre: (n,).
        left: (m, k).
        right: (n, k).
        left_covariance: (m, k, k), or None where the rows are certain.
        right_covariance: (n, k, k), or None.
        noise: variance of an observed entry about the table, (n,).
        error: further variance of every entry, (n,).
        prior: of the row of left of a new row.
        rank: directions that are no noise.
        exact: whether the observed entries fit to rounding.
        unique: whether they determine the table locally; None if it is not exact.
        decision: what was decided, by name.
        history: what happened, by name.
        iterations: how many steps there were.
    """

    centre: Array
    left: Array
    right: Array
    left_covariance: Array | None
    right_covariance: Array | None
    noise: Array
    error: Array
    prior: Prior
    rank: int
    exact: bool
    unique: bool | None
    decision: dict[str, Any]
    history: dict[str, Array]
    iterations: int


def attributes_of(learned: Learned, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes of an estimator that learnt this, arrays in its dtype."""
    sigma = factored_svd(learned.left, learned.right)[1]
    arrays = {
        "left_": learned.left,
        "right_": learned.right,
        "centre_": learned.centre,
        "singular_values_": sigma,
        "noise_variance_": learned.noise,
    }
    return {name: array.astype(dtype, copy=False) for name, array in arrays.items()} | {
        "rank_": learned.rank,
        "effective_rank_": float(effective_rank_of_spectrum(torch.from_numpy(sigma))),
        "exact_": learned.exact,
        "unique_": learned.unique,
        "decision_": learned.decision,
        "n_iter_": learned.iterations,
        "history_": learned.history,
        "_learned": learned,
        "_dtype": dtype,
    }


def whole_table(learned: Learned) -> Array:
    """Return every entry of the table, (m, n)."""
    whole: Array = learned.left @ learned.right.T
    whole += learned.centre
    return whole


def explained_share(learned: Learned, values: Array, mask: Array) -> float:
    """Return the share of the variance of entries that the others of their rows explain."""
    fold = sum(np.ogrid[: mask.shape[0], : mask.shape[1]]) % FOLDS
    error = np.zeros(mask.shape)
    for held in range(FOLDS):
        out = mask & (fold == held)
        error[out] = (filled_rows(learned, values, mask & ~out) - values)[out]
    away = np.where(mask, values - learned.centre, 0)
    spread = np.sum(away**2, 0)
    unit = np.where(spread > 0, spread, 1)
    total = np.sum(spread > 0)
    return float(1 - np.sum(np.sum(error**2, 0) / unit) / total) if total else 1.0


def places_in(learned: Learned, rows: Any, columns: Any) -> tuple[Array, Array, tuple[int, ...]]:
    """Return rows and columns of entries of the table, as lists, and the shape they came in."""
    i, j = np.broadcast_arrays(
        places_of("rows", rows, len(learned.left), IndexError),
        places_of("columns", columns, len(learned.right), IndexError),
    )
    return i.ravel(), j.ravel(), i.shape


def entries_of(learned: Learned, rows: Array, columns: Array) -> Array:
    """Return entries of the table."""
    inner = inner_products(learned.left, learned.right, rows, columns)
    return np.asarray(learned.centre[columns] + inner)


def deviations_of(learned: Learned, rows: Array, columns: Array) -> Array:
    """Return standard deviations of entries of the table, without the noise of an observation."""
    variance = learned.error[columns].astype(float)
    k = learned.left.shape[1]
    for first in range(0, len(rows), CHUNK):
        at = slice(first, first + CHUNK)
        i, j = rows[at], columns[at]
        nothing = np.zeros((len(i), k, k))
        left, right = learned.left_covariance, learned.right_covariance
        variance[at] += entry_variances(
            learned.left[i],
            nothing if left is None else left[i],
            learned.right[j],
            nothing if right is None else right[j],
        )
    return np.asarray(np.maximum(variance, 0) ** 0.5)


def filled_rows(learned: Learned, values: Array, mask: Array) -> Array:
    """Return the conditional means of new rows, (r, n), given their entries where mask is true."""
    mean = learned.centre + learned.right @ learned.prior.mean
    values_of, vectors = np.linalg.eigh(learned.prior.covariance)
    features = learned.right @ (vectors * np.maximum(values_of, 0) ** 0.5)
    # without noise: least squares, in units of the columns
    size = float((learned.noise > 0).any())
    unit = learned.noise**0.5 if size else np.sum(features**2, 1) ** 0.5
    # a constant column has no noise, no features, and says nothing of the others
    unit = np.where(unit > 0, unit, 1)
    known = np.where(mask, values - mean, 0) / unit
    found = complete_rows(
        torch.from_numpy(np.ascontiguousarray(known)),
        torch.from_numpy(np.ascontiguousarray(mask)),
        torch.from_numpy(np.ascontiguousarray(features / unit[:, None])),
        size,
    )
    return np.asarray(found.numpy() * unit + mean)
