"""From what a user has to entries, and which of them are usable."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from virtualdepth.completion import Entries, observe

Array = NDArray[Any]

# Below it numbers have lost digits, and their inverses overflow.
TINY = 1e-290


class Table(NamedTuple):
    """Observed entries and the dtype that results have."""

    entries: Entries
    dtype: np.dtype[Any]


def without_mask(data: Any) -> Any:
    """Turn a masked array into one with NaN, and return all else as it is."""
    if isinstance(data, np.ma.MaskedArray):
        # scikit-learn's conversion would drop the mask. Integers have no NaN; what cannot be a
        # number is refused later
        return np.ma.filled(data if data.dtype.kind in "fcO" else data.astype(float), np.nan)
    return data


def read_table(data: Any, fit: bool) -> Table:
    """Read a float array, NaN where missing, or a CSR matrix whose stored entries are known.

    ``fit``: whether it must do for a fit.
    """
    if issparse(data):
        if not data.has_canonical_format:
            data = data.copy()
            data.sum_duplicates()
        values = data.data
        rows = np.repeat(np.arange(data.shape[0], dtype=np.int32), np.diff(data.indptr))
        columns = data.indices
        known = ~np.isnan(values)
        if not known.all():
            rows, columns, values = rows[known], columns[known], values[known]
    else:
        rows, columns = np.nonzero(~np.isnan(data))
        values = data[rows, columns]
    if fit:
        check_usable(columns, values, data.shape)
    return Table(observe(rows, columns, values, data.shape, ordered=True), data.dtype)


def read_entries(rows: Any, columns: Any, values: Any, shape: Any) -> Table:
    """Read lists of rows, columns and values of a table of a shape."""
    if np.shape(shape) != (2,) or min(shape) < 1:
        raise ValueError(f"shape: expected two numbers >= 1 but got {shape}")
    values = np.asarray(values)
    dtype = values.dtype if values.dtype == np.float32 else np.dtype(float)
    values = values.astype(float)
    places = [
        places_of(name, given, size)
        for name, given, size in zip(("rows", "columns"), (rows, columns), shape, strict=True)
    ]
    for name, place in zip(("rows", "columns"), places, strict=True):
        if place.shape != values.shape or values.ndim != 1:
            raise ValueError(
                f"{name}: expected a list as long as values, shape {values.shape}, but got shape "
                f"{place.shape}"
            )
    if not np.isfinite(values).all():
        raise ValueError("values: expected finite numbers but got NaN or infinity; drop them")
    flat = places[0].astype(np.int64) * shape[1] + places[1]
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    double = flat[1:][flat[1:] == flat[:-1]]
    if len(double):
        place = divmod(int(double[0]), shape[1])
        raise ValueError(
            f"rows, columns: expected each entry once but got {place} more than once; average or "
            "drop the repetitions"
        )
    rows, columns, values = places[0][order], places[1][order], values[order]
    check_usable(columns, values, shape)
    return Table(observe(rows, columns, values, tuple(shape), ordered=True), dtype)


def places_of(name: str, given: Any, size: int, refuse: type[Exception] = ValueError) -> Array:
    """Read indices below a size; ``refuse`` is raised for others."""
    place = np.asarray(given)
    if place.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers but got {place.dtype}")
    if place.size and not (place.min() >= 0 and place.max() < size):
        raise refuse(f"{name}: expected 0 <= index < {size} but got {place.min()} to {place.max()}")
    return place


def check_usable(columns: Array, values: Array, shape: tuple[int, int]) -> None:
    """Refuse a table without entries, with an empty column, or with squares that overflow."""
    if not len(values):
        raise ValueError("X: expected at least one observed entry but got none")
    empty = np.flatnonzero(np.bincount(columns, minlength=shape[1]) == 0).tolist()
    if empty:
        named = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        raise ValueError(
            "X: expected an observed entry in every column but got none in "
            f"{len(empty)} of {shape[1]} (index {named}); drop them"
        )
    sizes = np.zeros(shape[1])
    np.maximum.at(sizes, columns, np.abs(values))
    tiny = np.flatnonzero((sizes > 0) & (sizes < TINY))
    if len(tiny):
        raise ValueError(
            f"X: expected columns of entries of size 0 or >= {TINY:.0e} but got a largest of "
            f"{sizes[tiny[0]]:.1e} in column {tiny[0]}; rescale X"
        )
    largest = float(sizes.max())
    if not largest < np.finfo(values.dtype).max ** 0.5 / 16:
        raise ValueError(
            "X: expected entries whose mean square is a finite number but got a largest entry of "
            f"{largest:.1e}; rescale X"
        )
