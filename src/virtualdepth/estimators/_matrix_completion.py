"""A scikit-learn imputer for tables of low rank."""

import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from virtualdepth.estimators._automatic import fit_automatically
from virtualdepth.estimators._entries import Table, read_entries, read_table, without_mask
from virtualdepth.estimators._flow import fit_flow
from virtualdepth.estimators._learned import (
    attributes_of,
    deviations_of,
    entries_of,
    explained_share,
    filled_rows,
    places_in,
    whole_table,
)
from virtualdepth.estimators._options import read_options

Matrix = NDArray[Any]

INTERRUPTED = "interrupted: the fit keeps what it had found so far; fit again for the rest"


class MatrixCompletion(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""Complete a table of low rank from some of its entries, without a rank or penalty to choose.

    The model is :math:`X_{ij} = c_j + u_i \cdot v_j + e_{ij}` with few directions. Method "auto"
    looks for the table of lowest rank that has the observed entries: iteratively reweighted least
    squares whose weight is the rule of infinite depth, then Gauss-Newton at the rank that shows. A
    residual at the rounding level certifies the fit (``exact_``). Otherwise the entries have noise,
    or the table is not of low rank. Then variational Bayes estimates noise, rank and the error of
    every entry; if no rank stands out, entries that are held out weigh the Bayes estimate, points
    of the reweighted paths, column means, and the flow of depth 2. Each column's noise has a scale.

    NaN is a missing entry. In a ``numpy.ma.MaskedArray`` masked entries are missing too. In a scipy
    sparse matrix the entries that are not stored are missing; stored zeros are observed, and
    duplicates add up, as everywhere in scipy. float32 stays float32; other types become float64.
    Every column needs an observed entry. Their units do not matter, nor their offsets if exact.

    Args:
        method: "auto", or "flow": one matrix trained by gradient descent from a small start, as if
            it were the product of ``depth`` matrices. The flow is for those who study it; it works
            on the whole matrix. The options from ``depth`` to ``centre`` are its alone.
        depth: number of layers N of the flow, real, 1 < N <= inf. 2 has a bias to low nuclear norm,
            3 and more a stronger one to low rank. inf needs a square X.
        init_scale: size of the flow's start, > 0, in units of the root mean square of the observed
            entries: Gaussians of standard deviation ``init_scale / sqrt(n_features)``.
        max_iter: about the largest number of gradients that a descent evaluates, >= 1.
        tol: a descent ends when the loss is at most ``tol`` times the mean square of the observed
            entries, 0 <= tol < 1.
        validation_fraction: the share of the observed entries that the flow holds out to find where
            to stop, 0 <= validation_fraction < 1. With 0 it does not stop early.
        warm_start: begin the flow from the last fit, whose X must have had the same shape.
        centre: subtract the mean of each column's observed entries before the flow.
        random_state: None, an integer or a ``numpy.random.RandomState``.
        verbose: show a progress bar.

    Attributes:
        completed_: the estimate of every entry, observed ones too, (n_samples, n_features). It is
            made anew each time it is asked for: ``centre_ + left_ @ right_.T``.
        centre_: c, zeros if columns were not centred, (n_features,).
        left_: u, (n_samples, k).
        right_: v, in the units of the columns, (n_features, k).
        singular_values_: singular values of ``completed_ - centre_``, the largest first, (k,).
        rank_: how many of the directions are no noise.
        effective_rank_: see :func:`virtualdepth.effective_rank`.
        exact_: whether the observed entries are fitted to the rounding level.
        unique_: whether no other table of the same rank near this one has the same entries; None
            if ``exact_`` is false.
        noise_variance_: variance of an observed entry about ``completed_``, in the squared unit of
            each column, (n_features,).
        decision_: "method", what the fit is from; "centred", whether means were subtracted;
            "scale", what each column was divided by; "held_out_errors", mean squares of the
            methods compared, in units of the columns' spread; "weights", their shares in the fit.
        n_iter_: steps of all homotopies and sweeps of the Bayes estimate; for the flow gradients.
        history_: what happened, arrays by name: of each step of the homotopies "eps", "rank" and
            "gap"; "residual" of each Gauss-Newton; "noise" of each sweep. For the flow "loss",
            "search_loss" and "validation_loss" of each gradient.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, if X had names that are strings.

    Ctrl-C leaves a fitted estimator with what was found so far, and a warning; if nothing was
    found, and in the flow, it leaves the estimator as it was. So does an error.

    Source: arXiv 1703.05038 (harmonic mean weights); arXiv 1802.06509, Theorem 1 (the rule);
    arXiv 1905.13655 (its bias).

    >>> import numpy as np
    >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])  # of rank one
    >>> X[[0, 1, 3], [3, 0, 1]] = np.nan
    >>> model = MatrixCompletion(random_state=0)
    >>> model.fit_transform(X).round(6)
    array([[ 1.,  2.,  3.,  4.],
           [ 2.,  4.,  6.,  8.],
           [ 3.,  6.,  9., 12.],
           [ 4.,  8., 12., 16.]])
    >>> model.exact_, model.unique_, model.rank_
    (True, True, 1)
    >>> model.transform([[5.0, np.nan, np.nan, np.nan]]).round(6)
    array([[ 5., 10., 15., 20.]])
    """

    def __init__(
        self,
        method: Literal["auto", "flow"] = "auto",
        *,
        depth: float = 3,
        init_scale: float = 1e-3,
        max_iter: int = 10_000,
        tol: float = 1e-6,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        centre: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.method = method
        self.depth = depth
        self.init_scale = init_scale
        self.max_iter = max_iter
        self.tol = tol
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.centre = centre
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: None = None) -> Self:
        """Complete X.

        Args:
            X: (n_samples, n_features). NaN, masked entries and entries that a scipy sparse matrix
                does not store are missing.
            y: ignored.

        Returns:
            The estimator.

        Raises:
            TypeError: if an option is of the wrong type.
            ValueError: if an option is out of range; if X has infinite entries, or entries whose
                squares overflow; if X has no observed entry, or a column without one; if, with
                ``warm_start``, it has another shape than before.
        """
        self._fit(lambda: self._read(X, reset=True))
        return self

    def fit_entries(self, rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> Self:
        """Complete a table from a list of its entries.

        Args:
            rows: row of each entry, integers from 0.
            columns: column of each entry.
            values: its value.
            shape: (n_samples, n_features) of the table.

        Returns:
            The estimator.

        Raises:
            TypeError: if rows or columns are not integers, or an option is of the wrong type.
            ValueError: as :meth:`fit`; if the lists differ in length, an index is outside of the
                shape, or an entry is given more than once.
        """

        def read() -> Table:
            table = read_entries(rows, columns, values, shape)
            self.n_features_in_ = int(shape[1])
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return table

        self._fit(read)
        return self

    def fit_transform(self, X: Any, y: None = None) -> Matrix:
        """Complete X and fill its missing entries.

        Args:
            X: as in :meth:`fit`.
            y: ignored.

        Returns:
            A dense array, (n_samples, n_features): X where observed, else ``completed_``.

        Raises:
            TypeError: if an option is of the wrong type.
            ValueError: as :meth:`fit`.
        """
        entries, dtype = self._fit(lambda: self._read(X, reset=True))
        filled = self.completed_
        filled[entries.rows, entries.columns] = entries.listed.astype(dtype)
        return filled

    def transform(self, X: Any) -> Matrix:
        r"""Fill the missing entries of new rows.

        A row with the observed entries O gets its conditional mean :math:`c + V u`, where u
        minimises :math:`\sum_{j \in O} (x_j - c_j - v_j \cdot u)^2 / s_j + (u - \mu)^\top C^{-1}
        (u - \mu)`. :math:`\mu` and C are the mean and covariance of the rows of ``left_``, and s is
        ``noise_variance_``. For an exact fit it is the solution of least squares of smallest norm.
        A row without an observed entry gets :math:`c + V \mu`.

        Args:
            X: (n_rows, n_features), missing entries as in :meth:`fit`.

        Returns:
            A dense array, (n_rows, n_features): X where observed.

        Raises:
            NotFittedError: before a fit.
            ValueError: if X has infinite entries or another number of columns.
        """
        check_is_fitted(self)
        entries, dtype = self._read(X, reset=False)
        values, mask = entries.whole()
        filled = filled_rows(self._learned, values, mask)
        return np.where(mask, values, filled).astype(dtype)

    def score(self, X: Any, y: None = None) -> float:
        r"""Return how well entries of rows follow from the others of their row.

        Each observed entry is left out once, with a fifth of its row, and predicted by
        :meth:`transform`.

        Args:
            X: as in :meth:`transform`.
            y: ignored.

        Returns:
            :math:`R^2 = 1 - \sum (\hat x - x)^2 / \sum (x - c)^2`, in units of each column's
            spread about c, ``centre_``; at most 1.

        Raises:
            NotFittedError: before a fit.
            ValueError: if X has infinite entries or another number of columns.
        """
        check_is_fitted(self)
        values, mask = self._read(X, reset=False).entries.whole()
        return explained_share(self._learned, values, mask)

    def predict(
        self, rows: Any, columns: Any = None, return_std: bool = False
    ) -> Matrix | tuple[Matrix, Matrix]:
        r"""Return single entries, without making the whole table.

        Args:
            rows: rows of the entries, integers, in the table of the fit. Without ``columns`` it is
                a table of new rows, which is given to :meth:`transform`.
            columns: their columns, of a shape that broadcasts with ``rows``.
            return_std: return standard deviations too.

        Returns:
            The entries of ``completed_``; with ``return_std`` also the standard deviation of their
            error. It is that of the entry without noise: an observation of it would deviate by
            :math:`(\mathrm{std}^2 + s_j)^{1/2}`, s_j of ``noise_variance_``. It is NaN where a fit
            was interrupted.

        Raises:
            NotFittedError: before a fit.
            IndexError: if an index is negative or outside of the table.
            TypeError: if one is no integer.

        >>> import numpy as np
        >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
        >>> X[[0, 1, 3], [3, 0, 1]] = np.nan
        >>> MatrixCompletion(random_state=0).fit(X).predict([0, 3], [3, 1]).round(6)
        array([4., 8.])
        """
        check_is_fitted(self)
        if columns is None:
            return self.transform(rows)
        i, j, shape = places_in(self._learned, rows, columns)
        found = entries_of(self._learned, i, j).astype(self._dtype).reshape(shape)
        if not return_std:
            return found
        return found, deviations_of(self._learned, i, j).astype(self._dtype).reshape(shape)

    @property
    def completed_(self) -> Matrix:
        """The estimate of every entry, (n_samples, n_features), made when asked for."""
        if "_learned" not in vars(self):
            raise AttributeError("completed_: expected a fitted estimator; call fit first")
        return whole_table(self._learned).astype(self._dtype, copy=False)

    def _read(self, X: Any, reset: bool) -> Table:
        checked = validate_data(
            self,
            without_mask(X),
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        return read_table(checked, fit=reset)

    def _fit(self, read: Callable[[], Table]) -> Table:
        before = dict(self.__dict__)
        try:
            table = read()
            options = read_options(self.get_params(deep=False), table.entries.shape)
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            if options.method == "flow":
                previous = getattr(self, "_learned", None) if self.warm_start else None
                learned, interrupted = fit_flow(table, options, previous, seed), False
            else:
                learned, interrupted = fit_automatically(table, seed, options.verbose)
            self.__dict__ |= attributes_of(learned, table.dtype)
        except BaseException:  # Ctrl-C before anything was found, too
            self.__dict__ = before
            raise
        if interrupted:
            warnings.warn(INTERRUPTED, ConvergenceWarning, stacklevel=3)
        return table
