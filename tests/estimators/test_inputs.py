"""What counts as observed, and what is refused or answered where data or options are unusable."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from tests.estimators.problems import Array, low_rank

from virtualdepth.estimators import MatrixCompletion


def model(**options: Any) -> MatrixCompletion:
    return MatrixCompletion(
        "flow", **{"tol": 1e-3, "validation_fraction": 0, "random_state": 0} | options
    )


def masked(known: Array) -> Any:
    return np.ma.masked_invalid(known)


def sparse(kind: str) -> Callable[[Array], Any]:
    def convert(known: Array) -> Any:
        rows, columns = np.nonzero(~np.isnan(known))
        stored = scipy.sparse.coo_array((known[rows, columns], (rows, columns)), known.shape)
        return stored.asformat(kind)

    return convert


def sparse_matrix(known: Array) -> Any:
    return scipy.sparse.csr_matrix(sparse("csr")(known))


def in_columns(known: Array) -> Any:
    return np.asfortranarray(known)


def read_only(known: Array) -> Any:
    copy = known.copy()
    copy.setflags(write=False)
    return copy


@pytest.mark.parametrize(
    "convert",
    [masked, sparse("coo"), sparse("csr"), sparse("csc"), sparse_matrix, in_columns, read_only],
)
def test_every_way_to_say_what_is_missing(convert: Callable[[Array], Any]) -> None:
    known = low_rank().known
    known[0, np.flatnonzero(~np.isnan(known[0]))[0]] = 0  # an observed zero
    expected = model().fit(known)
    found = model().fit(convert(known))
    np.testing.assert_array_equal(found.completed_, expected.completed_)
    np.testing.assert_array_equal(
        model().fit_transform(convert(known)), model().fit_transform(known)
    )
    np.testing.assert_array_equal(found.transform(convert(known)), expected.transform(known))


def test_what_a_mask_hides_is_not_read() -> None:
    known = low_rank().known
    hidden = np.ma.array(np.where(np.isnan(known), 1e9, known), mask=np.isnan(known))
    np.testing.assert_array_equal(model().fit_transform(hidden), model().fit_transform(known))
    assert hidden.mask.any()
    assert hidden.data.max() == 1e9  # as it was


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_integers_may_be_masked(dtype: type) -> None:
    outer = np.outer([1, 2, 3], [1, 2, 3]).astype(dtype)
    whole = np.ma.array(outer, mask=np.eye(3, k=2, dtype=bool))
    filled = model().fit_transform(whole)
    assert filled.dtype == np.float64
    np.testing.assert_array_equal(filled[~whole.mask], whole.compressed())


def test_sparse_duplicates_add_up_and_nan_is_missing() -> None:
    pieces = [1.0, 2.0, 4.0, 5.0, np.nan, 6.0]
    rows, columns = [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]
    doubled = scipy.sparse.csr_array((pieces[:4], ([0, 0, 0, 1], [0, 0, 1, 0])), (2, 2))
    np.testing.assert_array_equal(
        np.isclose(model().fit_transform(doubled), [[3, 4], [5, 0]]), [[True, True], [True, False]]
    )
    uncanonical = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 4.0, 5.0]), np.array([0, 0, 1, 0]), np.array([0, 3, 4])), (2, 2)
    )
    assert not uncanonical.has_canonical_format
    np.testing.assert_array_equal(
        model().fit_transform(uncanonical), model().fit_transform(doubled)
    )
    with_nan = scipy.sparse.coo_array((pieces[:5], (rows[:5], columns[:5])), (2, 2))
    np.testing.assert_array_equal(model().fit_transform(with_nan), model().fit_transform(doubled))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype: type) -> None:
    known = low_rank().known.astype(dtype)
    fitted = model().fit(known)
    for array in (
        fitted.completed_,
        fitted.singular_values_,
        fitted.centre_,
        fitted.transform(known),
        fitted.fit_transform(known),
    ):
        assert array.dtype == dtype
    np.testing.assert_allclose(
        fitted.completed_, model().fit(low_rank().known).completed_, rtol=0, atol=0.05
    )


def test_torch_s_default_device_is_not_used() -> None:
    expected = model(validation_fraction=0.1).fit(low_rank().known)
    try:
        torch.set_default_device("meta")
        found = model(validation_fraction=0.1).fit(low_rank().known)
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(found.completed_, expected.completed_)


def test_inputs_are_left_alone() -> None:
    known = low_rank().known
    copy = known.copy()
    fitted = model(centre=True).fit(known)
    fitted.fit_transform(known)
    fitted.transform(known)
    np.testing.assert_array_equal(known, copy)
    stored = sparse("csr")(known)
    data = stored.data.copy()
    fitted.fit(stored)
    np.testing.assert_array_equal(stored.data, data)


def test_observed_entries_are_kept() -> None:
    known = low_rank(noise=0.3).known
    seen = ~np.isnan(known)
    fitted = model()
    filled = fitted.fit_transform(known)
    np.testing.assert_array_equal(filled[seen], known[seen])
    np.testing.assert_array_equal(filled[~seen], fitted.completed_[~seen])
    np.testing.assert_array_equal(fitted.transform(known)[seen], known[seen])


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("fraction", [0, 0.3])
def test_a_row_of_which_nothing_is_known_gets_the_centre(centre: bool, fraction: float) -> None:
    known = low_rank().known + 1
    known[4] = np.nan
    fitted = model(centre=centre, validation_fraction=fraction).fit(known)
    expected = np.nanmean(known, axis=0) if centre else np.zeros(20)
    np.testing.assert_allclose(fitted.completed_[4], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fitted.transform(known)[4], expected, rtol=0, atol=1e-12)


NAN_COLUMNS = low_rank().known
NAN_COLUMNS[:, [3, 5]] = np.nan
INFINITE = low_rank().known
INFINITE[0, 0] = np.inf


@pytest.mark.parametrize(
    ("unusable", "message"),
    [
        (NAN_COLUMNS, r"X: expected an observed entry in every column but got none in 2 of 20 "
                      r"\(index 3, 5\); drop them"),
        (np.full((3, 12), np.nan), "X: expected at least one observed entry but got none"),
        (scipy.sparse.csr_array((3, 2)), "X: expected at least one observed entry but got none"),
        (np.ma.array(np.ones((2, 2)), mask=True), "X: expected at least one observed entry"),
        (INFINITE, "infinity"),
        (np.ma.array(INFINITE, mask=np.isnan(INFINITE)), "infinity"),
        (sparse("csr")(INFINITE), "infinity"),
        (np.ones(3), "2D array"),
        (np.ones((0, 3)), "0 sample"),
        (np.ones((3, 2)) * 1j, "Complex data not supported"),
        (np.ma.array(np.ones((3, 2)) * 1j), "Complex data not supported"),
        (1e200 * low_rank().known, "X: expected entries whose mean square is a finite number"),
        ([["a", "b"]], "could not convert string to float"),
    ],
)  # fmt: skip
def test_unusable_data_is_refused(unusable: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model().fit(unusable)


def test_new_rows_need_a_fit_and_its_width() -> None:
    with pytest.raises(NotFittedError):
        model().transform(np.ones((1, 2)))
    fitted = model().fit(low_rank().known)
    with pytest.raises(ValueError, match=r"X has 3 features.*expecting 20"):
        fitted.transform(np.ones((1, 3)))
    with pytest.raises(ValueError, match="infinity"):
        fitted.transform(np.full((1, 20), np.inf))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"depth": 1}, ValueError, "depth: expected a number > 1 or inf but got 1; plain"),
        ({"depth": 0.5}, ValueError, "depth"),
        ({"depth": math.nan}, ValueError, "depth"),
        ({"depth": "3"}, TypeError, "depth"),
        ({"depth": math.inf}, ValueError, r"depth: expected a finite number for X of shape \(30,"),
        ({"init_scale": 0}, ValueError, "init_scale: expected a finite number > 0 but got 0"),
        ({"init_scale": math.inf}, ValueError, "init_scale"),
        ({"init_scale": None}, TypeError, "init_scale"),
        ({"max_iter": 0}, ValueError, "max_iter: expected an integer >= 1 but got 0"),
        ({"max_iter": 10.0}, TypeError, "max_iter"),
        ({"max_iter": True}, TypeError, "max_iter"),
        ({"tol": -1e-3}, ValueError, "tol: expected a number >= 0 and < 1 but got -0.001"),
        ({"tol": 1}, ValueError, "tol"),
        ({"tol": "small"}, TypeError, "tol"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction: expected a number >= 0"),
        ({"validation_fraction": None}, TypeError, "validation_fraction"),
        ({"warm_start": 1}, TypeError, "warm_start: expected True or False but got 1"),
        ({"centre": "columns"}, TypeError, "centre: expected True or False but got 'columns'"),
        ({"verbose": "loud"}, TypeError, "verbose"),
        ({"random_state": "seed"}, ValueError, "cannot be used to seed"),
    ],
)  # fmt: skip
def test_unusable_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model(**options).fit(low_rank().known)


def test_a_warm_start_of_another_shape_is_refused() -> None:
    fitted = model(warm_start=True).fit(low_rank().known)
    before = fitted.completed_
    with pytest.raises(ValueError, match=r"expected the shape \(30, 20\).*got \(29, 20\).*False"):
        fitted.fit(low_rank().known[1:])
    np.testing.assert_array_equal(fitted.completed_, before)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (3, 2)])
@pytest.mark.parametrize("depth", [2, 2.5, 3])
@pytest.mark.parametrize("fraction", [0, 0.4])
def test_small_matrices(shape: tuple[int, int], depth: float, fraction: float) -> None:
    whole = 1 + np.arange(math.prod(shape), dtype=float).reshape(shape)
    fitted = MatrixCompletion(
        "flow", depth=depth, tol=1e-4, validation_fraction=fraction, random_state=0
    )
    np.testing.assert_array_equal(fitted.fit_transform(whole), whole)
    if fraction == 0:
        error = np.mean((fitted.completed_ - whole) ** 2)
        assert error <= 1e-4 * np.mean(whole**2)
    assert ((fitted.noise_variance_ >= 0) & (fitted.noise_variance_ < math.inf)).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_determinant_keeps_its_sign(sign: float) -> None:
    # of the 2 x 2 start too: one of the two signs is out of reach, by its smallest singular value
    whole = np.diag([3.0, sign])
    reached = MatrixCompletion(
        "flow", tol=1e-4, max_iter=300, validation_fraction=0, random_state=0, init_scale=0.1
    )
    start = MatrixCompletion(
        "flow", tol=0.99, max_iter=1, validation_fraction=0, random_state=0, init_scale=0.1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kept = np.sign(np.linalg.det(start.fit(whole).completed_))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        reached.fit(whole)
    missed = kept != sign
    assert [warning.category for warning in said] == [ConvergenceWarning] * int(missed)
    np.testing.assert_allclose(
        reached.singular_values_, [3.0, 0.0 if missed else 1.0], rtol=0, atol=0.1
    )
