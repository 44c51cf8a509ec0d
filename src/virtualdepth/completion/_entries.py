"""The observed entries of a matrix, and the few products with them that everything else is made of.

"On the entries" below means: one number for each observed entry, in a form that only this file
knows. It is a list for sparse tables, and a matrix with zeros elsewhere for dense ones. Both take
sums, differences and norms.
"""

import warnings
from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[Any]

# Entries that are gathered at once: what this takes stays in the cache.
CHUNK = 20_000
# A product of whole matrices does this many operations in the time of one of a sparse product.
DENSE_GAIN = 12
# The largest matrix that is held whole, in numbers.
DENSE_LIMIT = 10_000_000


class Entries(ABC):
    """Observed entries of a matrix, (m, n), each once, in the order of rows.

    Attributes:
        shape: (m, n).
        rows: row of each entry.
        columns: column of each entry.
        listed: value of each entry, as a list.
        values: the same on the entries.
        row_counts: how many entries each row has, (m,).
        column_counts: how many each column has, (n,).
    """

    values: Array

    def __init__(self, rows: Array, columns: Array, listed: Array, shape: tuple[int, int]) -> None:
        self.rows, self.columns, self.listed, self.shape = rows, columns, listed, shape
        self.row_counts = np.bincount(rows, minlength=shape[0])
        self.column_counts = np.bincount(columns, minlength=shape[1])

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.listed)

    @property
    def transposed(self) -> "Entries":
        """The same entries of the transposed matrix."""
        return observe(self.columns, self.rows, self.listed, self.shape[::-1])

    def with_values(self, listed: Array) -> "Entries":
        """Return the same places with other values, as a list."""
        return type(self)(self.rows, self.columns, listed, self.shape)

    def keep(self, chosen: Array) -> "Entries":
        """Return those of which ``chosen``, a list of booleans, is true."""
        return observe(
            self.rows[chosen], self.columns[chosen], self.listed[chosen], self.shape, ordered=True
        )

    def whole(self) -> tuple[Array, Array]:
        """Return the table with zeros where nothing was observed, and where something was."""
        values, mask = np.zeros(self.shape), np.zeros(self.shape, bool)
        values[self.rows, self.columns] = self.listed
        mask[self.rows, self.columns] = True
        return values, mask

    def predictions(self, left: Array, right: Array) -> Array:
        """Return (left right^T) at the entries, as a list."""
        return inner_products(left, right, self.rows, self.columns)

    @abstractmethod
    def product(self, left: Array, right: Array) -> Array:
        """Return left right^T on the entries, from (m, k) and (n, k)."""

    @abstractmethod
    def times(self, data: Array, right: Array) -> Array:
        """Return D right, (m, k), for D of data on the entries and zeros elsewhere."""

    @abstractmethod
    def transposed_times(self, data: Array, left: Array) -> Array:
        """Return D^T left, (n, k)."""

    @abstractmethod
    def _sums(self, packed: Array, by_column: bool) -> Array:
        """Return the sum over the entries of each row of the rows (n, p) of their columns.

        ``by_column`` swaps rows and columns.
        """

    def row_grams(self, second: Array) -> Array:
        """Return for each row the sum over its entries of the blocks (n, k, k) of their columns."""
        return self._grams(second, by_column=False)

    def column_grams(self, second: Array) -> Array:
        """Return for each column the sum over its entries of the blocks (m, k, k) of their rows."""
        return self._grams(second, by_column=True)

    def _grams(self, second: Array, by_column: bool) -> Array:
        k = second.shape[1]
        i, j = upper_triangle(k)  # the blocks are symmetric
        packed = self._sums(np.ascontiguousarray(second[:, i, j]), by_column)
        full = np.empty((len(packed), k, k))
        full[:, i, j] = packed
        full[:, j, i] = packed
        return full


class ListedEntries(Entries):
    """Entries of a sparse table: memory of the size of their number."""

    def __init__(self, rows: Array, columns: Array, listed: Array, shape: tuple[int, int]) -> None:
        super().__init__(rows, columns, listed, shape)
        self.values = listed
        self._starts = np.concatenate([[0], np.cumsum(self.row_counts)]).astype(np.int32)
        self._ones = self._matrix(np.ones(len(listed)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            self._pattern = torch.sparse_csr_tensor(
                torch.from_numpy(self._starts),
                torch.from_numpy(columns),
                torch.zeros(len(listed), dtype=torch.float64, device="cpu"),
                size=shape,
                device="cpu",
                check_invariants=False,
            )

    def _matrix(self, data: Array) -> csr_matrix:
        return csr_matrix((data, self.columns, self._starts), shape=self.shape, copy=False)

    def product(self, left: Array, right: Array) -> Array:
        """See :class:`Entries`."""
        factors = torch.from_numpy(left), torch.from_numpy(right).mT
        sampled = torch.sparse.sampled_addmm(self._pattern, *factors, beta=0.0)
        return np.asarray(sampled.values().numpy())

    def times(self, data: Array, right: Array) -> Array:
        """See :class:`Entries`."""
        return np.asarray(self._matrix(data) @ right)

    def transposed_times(self, data: Array, left: Array) -> Array:
        """See :class:`Entries`."""
        return np.asarray(self._matrix(data).T @ left)

    def _sums(self, packed: Array, by_column: bool) -> Array:
        return np.asarray((self._ones.T if by_column else self._ones) @ packed)


class DenseEntries(Entries):
    """Entries of a dense table: whole matrices, whose products are faster."""

    def __init__(self, rows: Array, columns: Array, listed: Array, shape: tuple[int, int]) -> None:
        super().__init__(rows, columns, listed, shape)
        self.values, mask = self.whole()
        self._mask = mask.astype(float)

    def product(self, left: Array, right: Array) -> Array:
        """See :class:`Entries`."""
        whole: Array = left @ right.T
        whole *= self._mask
        return whole

    def times(self, data: Array, right: Array) -> Array:
        """See :class:`Entries`."""
        return np.asarray(data @ right)

    def transposed_times(self, data: Array, left: Array) -> Array:
        """See :class:`Entries`."""
        return np.asarray(data.T @ left)

    def _sums(self, packed: Array, by_column: bool) -> Array:
        return np.asarray((self._mask.T if by_column else self._mask) @ packed)


@cache
def upper_triangle(k: int) -> tuple[Array, Array]:
    """Return rows and columns of the upper triangle of a k by k matrix."""
    return np.triu_indices(k)


def observe(
    rows: Array, columns: Array, listed: Array, shape: tuple[int, int], *, ordered: bool = False
) -> Entries:
    """Hold entries in the form that is faster for their number; ``ordered``: by row already."""
    rows, columns = np.asarray(rows, np.int32), np.asarray(columns, np.int32)
    listed = np.asarray(listed, float)
    if not ordered:
        order = np.lexsort((columns, rows))
        rows, columns, listed = rows[order], columns[order], listed[order]
    size = shape[0] * shape[1]
    is_dense = size <= min(DENSE_LIMIT, DENSE_GAIN * len(listed))
    return (DenseEntries if is_dense else ListedEntries)(rows, columns, listed, shape)


def inner_products(left: Array, right: Array, rows: Array, columns: Array) -> Array:
    """Return (left right^T)[rows, columns]."""
    out = np.empty(len(rows))
    for first in range(0, len(out), CHUNK):
        part = slice(first, first + CHUNK)
        np.einsum("ij,ij->i", left[rows[part]], right[columns[part]], out=out[part])
    return out
