"""A scikit-learn imputer for matrices of low rank, by the implicit bias of depth."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from virtualdepth.estimators._observations import (
    Observations,
    check_observed,
    observations,
    without_mask,
)
from virtualdepth.estimators._options import read_options
from virtualdepth.estimators._training import Training, train
from virtualdepth.maths import complete_rows, effective_rank_of_spectrum, thin_svd

Matrix = NDArray[Any]


class MatrixCompletion(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""Complete a matrix of low rank from some of its entries, without a rank or penalty to choose.

    One matrix W minimises :math:`\frac{1}{|\Omega|} \sum_{(i,j) \in \Omega} (W_{ij} -
    X_{ij})^2`, where Omega are the observed entries. W starts small and at random. It is trained as
    if it were the product of ``depth`` matrices, because gradient descent on such a product finds
    solutions of low rank. At integer depths W first follows
    :func:`virtualdepth.theory.integrate_flow`, while its singular values grow.
    :class:`virtualdepth.EndToEndSGD` with ``step_scale="auto"`` does the rest.

    NaN is a missing entry. In a ``numpy.ma.MaskedArray`` masked entries are missing too. In a scipy
    sparse matrix the entries that are not stored are missing; stored zeros are observed. float32
    stays float32; other types become float64. Every column needs an observed entry. A row without
    one gets ``centre_``.

    :meth:`fit_transform` returns X with its missing entries filled from ``completed_``.
    :meth:`transform` treats the rows of X as new rows. It regresses their missing entries on the
    observed ones.

    Args:
        depth: number of layers N, real, 1 < N <= inf. 2 has a bias to low nuclear norm, 3 and more
            a stronger one to low rank; deeper takes longer. inf needs a square X.
        init_scale: size of the start, > 0, in units of the root mean square of the observed
            entries: Gaussians of standard deviation ``init_scale / sqrt(n_features)``. Smaller is
            closer to the limit of the theory, and takes longer.
        max_iter: about the largest number of gradients that a descent evaluates, >= 1.
        tol: a descent ends when the loss is at most ``tol`` times the mean square of the observed
            entries, 0 <= tol < 1.
        validation_fraction: the share of the observed entries that is held out for early stopping,
            0 <= validation_fraction < 1. A first descent fits the other entries, and notes the loss
            at which the held-out error was smallest. A second one, from the same start, fits all
            entries down to that loss. With 0, or with too few entries to hold one out, there is no
            early stopping. That is right for data without noise.
        warm_start: begin from the matrix of the last fit, whose X must have had the same shape.
            The first descent of early stopping still begins at a new start, because the matrix of
            the last fit has seen the held-out entries.
        centre: subtract the mean of each column's observed entries before the fit, and add it
            afterwards.
        random_state: None, an integer or a ``numpy.random.RandomState``. It alone decides the
            start and which entries are held out.
        verbose: show a progress bar for each descent.

    Attributes:
        completed_: the low-rank estimate of every entry, observed ones too, (n_samples,
            n_features).
        centre_: means of the columns, or zeros, (n_features,).
        singular_values_: singular values of ``completed_ - centre_``, the largest first.
        effective_rank_: effective rank of the same, see :func:`virtualdepth.effective_rank`.
        noise_variance_: smallest mean squared error of the held-out entries in the first descent;
            without early stopping the loss.
        n_iter_: number of gradients evaluated, both descents together.
        history_: mean squared errors in the squared units of X, one for each gradient, including
            trial steps: "loss", and with early stopping "search_loss" and "validation_loss" of the
            first descent.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, if X had names that are strings.

    A fit that fails or is interrupted leaves the estimator as it was. Singular values do not cross
    zero. So if X is square, of full rank and all observed, the fit may miss its smallest singular
    value. It then warns. The page on matrix completion says more.

    Source: arXiv 1802.06509, Theorem 1 (the rule); arXiv 1905.13655 (its bias).

    >>> import numpy as np
    >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])  # of rank one
    >>> X[[0, 1, 3], [3, 0, 1]] = np.nan
    >>> model = MatrixCompletion(validation_fraction=0, random_state=0)
    >>> model.fit_transform(X).round(1)
    array([[ 1.,  2.,  3.,  4.],
           [ 2.,  4.,  6.,  8.],
           [ 3.,  6.,  9., 12.],
           [ 4.,  8., 12., 16.]])
    >>> model.transform([[5.0, np.nan, np.nan, np.nan]]).round(1)
    array([[ 5., 10., 15., 20.]])
    """

    def __init__(
        self,
        depth: float = 3,
        *,
        init_scale: float = 1e-3,
        max_iter: int = 10_000,
        tol: float = 1e-6,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        centre: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
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
        self._fit(X)
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
        values, mask = self._fit(X)
        return np.where(mask.numpy(), values.numpy(), self.completed_)

    def transform(self, X: Any) -> Matrix:
        r"""Fill the missing entries of new rows.

        A row x with the observed entries O gets :math:`\mu + V S c`, where c minimises
        :math:`\|x_O - \mu_O - (V S)_O c\|^2 + m\,\nu\,\|c\|^2`. This is its conditional mean, given
        the observed entries, under a Gaussian with mean :math:`\mu` (``centre_``), the second
        moment of the m rows of :math:`W = U S V^\top`, and noise of variance :math:`\nu`
        (``noise_variance_``). A row without an observed entry gets ``centre_``.

        Args:
            X: (n_rows, n_features), missing entries as in :meth:`fit`.

        Returns:
            A dense array, (n_rows, n_features): X where observed.

        Raises:
            NotFittedError: before a fit.
            ValueError: if X has infinite entries or another number of columns.
        """
        check_is_fitted(self)
        values, mask = self._read(X, reset=False)
        centre = torch.from_numpy(self.centre_)
        filled = complete_rows(
            values - centre, mask, torch.from_numpy(self._features), self.noise_variance_
        )
        return torch.where(mask, values, (filled + centre).to(values.dtype)).numpy()

    def _read(self, X: Any, reset: bool) -> Observations:
        checked = validate_data(
            self,
            without_mask(X),
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        return observations(checked)

    def _fit(self, X: Any) -> Observations:
        before = dict(self.__dict__)
        try:
            observed = self._read(X, reset=True)
            shape = (observed.mask.shape[0], observed.mask.shape[1])
            options = read_options(self.get_params(deep=False), shape)
            check_observed(observed.mask)
            generator = torch.Generator()
            generator.manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
            self._keep(train(observed, options, self._previous(shape), generator))
        except BaseException:  # Ctrl-C too
            self.__dict__ = before
            raise
        return observed

    def _previous(self, shape: tuple[int, int]) -> Tensor | None:
        """Return the matrix that a warm start begins from, (m, n), if there is one."""
        if not self.warm_start or not hasattr(self, "completed_"):
            return None
        if self.completed_.shape != shape:
            raise ValueError(
                f"X: expected the shape {self.completed_.shape} of the last fit, which "
                f"warm_start=True begins from, but got {shape}; set warm_start=False"
            )
        return torch.from_numpy(self.completed_)

    def _keep(self, training: Training) -> None:
        """Set the attributes that the fit learnt."""
        _, sigma, vh = thin_svd(training.weight)
        rows = training.rows
        self.completed_: Matrix = (training.weight + training.centre).numpy()
        self.centre_: Matrix = training.centre.numpy()
        self.singular_values_: Matrix = sigma.numpy()
        self.effective_rank_ = float(effective_rank_of_spectrum(sigma))
        self.noise_variance_ = training.noise_variance
        self.n_iter_ = training.evaluations
        self.history_ = training.history
        self._features: Matrix = (vh.mT * (sigma / rows**0.5)).numpy()
