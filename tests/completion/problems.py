"""Small tables of low rank, and literal forms of what completion computes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion import Entries, observe
from virtualdepth.completion._entries import DenseEntries, ListedEntries

Array = NDArray[Any]
FORMS = (ListedEntries, DenseEntries)


def table(
    rows: int = 14, columns: int = 11, rank: int = 2, share: float = 0.7, *, seed: int = 0
) -> tuple[Array, Array]:
    """A matrix of low rank, and a mask with at least ``rank`` true in every line."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns))
    while True:
        mask = random.random((rows, columns)) < share
        if mask.sum(0).min() >= rank and mask.sum(1).min() >= rank:
            return truth, mask


def entries_of(values: Array, mask: Array, form: type[Entries] | None = None) -> Entries:
    i, j = np.nonzero(mask)
    if form is None:
        return observe(i, j, values[mask], values.shape)
    return form(i.astype(np.int32), j.astype(np.int32), values[mask], values.shape)


def jacobian(u: Array, v: Array, mask: Array) -> Array:
    """Of (U, V) to the entries of U V^T, literally: (entries, r (m + n))."""
    (m, r), n = u.shape, len(v)
    i, j = np.nonzero(mask)
    out = np.zeros((len(i), r * (m + n)))
    for at, (row, column) in enumerate(zip(i, j, strict=True)):
        out[at, row * r : (row + 1) * r] = v[column]
        out[at, (m + column) * r : (m + column + 1) * r] = u[row]
    return out
