"""Method "auto": what it promises of exact tables, noise, units, inputs and interruptions."""

import pickle
import signal
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from tests.estimators.problems import low_rank, mean_square

from virtualdepth.completion import _recipe as recipe
from virtualdepth.estimators import MatrixCompletion

ATTRIBUTES = ("left_", "right_", "centre_", "singular_values_", "noise_variance_", "completed_")


def test_an_exact_table_comes_with_a_certificate() -> None:
    problem = low_rank()
    model = MatrixCompletion(random_state=0).fit(problem.known)
    assert (model.exact_, model.unique_, model.rank_) == (True, True, 2)
    np.testing.assert_allclose(model.completed_, problem.truth, atol=1e-10)
    np.testing.assert_allclose(
        model.completed_, model.centre_ + model.left_ @ model.right_.T, atol=1e-12
    )
    sigma = np.linalg.svd(problem.truth, compute_uv=False)[:2]
    np.testing.assert_allclose(model.singular_values_, sigma, rtol=1e-10)
    assert model.effective_rank_ == pytest.approx(
        np.exp(-np.sum(sigma / sigma.sum() * np.log(sigma / sigma.sum()))), rel=1e-10
    )
    assert not model.noise_variance_.any()
    assert model.decision_["method"] == "exact"
    assert model.n_iter_ == len(model.history_["eps"])


def test_noise_is_estimated_and_intervals_cover() -> None:
    problem = low_rank(80, 60, 3, 2400, noise=0.2)
    model = MatrixCompletion(random_state=0).fit(problem.known)
    assert not model.exact_
    assert model.unique_ is None
    assert model.rank_ == 3
    assert model.noise_variance_.mean() == pytest.approx(0.04, rel=0.15)
    # a column's own from forty entries
    assert np.std(model.noise_variance_ / 0.04) < 0.3
    rows, columns = np.nonzero(problem.missing)
    entries, std = model.predict(rows, columns, return_std=True)
    np.testing.assert_allclose(entries, model.completed_[rows, columns], atol=1e-12)
    inside = np.abs(entries - problem.truth[problem.missing]) < 1.96 * std
    assert 0.92 < inside.mean() < 0.98
    # the error of least squares that knows the rank, up to a tenth
    free = 3 * (80 + 60 - 3)
    assert mean_square(model.completed_ - problem.truth) < 1.3 * 0.04 * free / 2400


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_units_and_offsets_of_columns_do_not_matter(noise: float) -> None:
    problem = low_rank(60, 20, 2, 700, noise=noise)
    expected = MatrixCompletion(random_state=0).fit(problem.known).completed_
    error = np.sqrt(mean_square((expected - problem.truth)[problem.missing]))
    scale = 10.0 ** np.random.default_rng(0).uniform(-8, 8, 20)
    for offset in (0.0, 2.0, 1e6):
        moved = MatrixCompletion(random_state=0).fit(scale * (problem.known + offset))
        found = moved.completed_ / scale - offset
        if noise == 0:
            np.testing.assert_allclose(found, expected, atol=1e-6)
        else:
            here = np.sqrt(mean_square((found - problem.truth)[problem.missing]))
            assert here < 1.2 * error, (here, error)


def as_entries(known: np.ndarray) -> tuple[Any, ...]:
    rows, columns = np.nonzero(~np.isnan(known))
    return rows, columns, known[rows, columns], known.shape


def test_every_way_to_give_a_table_is_the_same() -> None:
    known = low_rank().known
    known[0, np.flatnonzero(~np.isnan(known[0]))[0]] = 0  # an observed zero
    rows, columns, values, shape = as_entries(known)
    stored = scipy.sparse.coo_array((values, (rows, columns)), shape)
    expected = MatrixCompletion(random_state=0).fit(known)
    mixed = np.random.default_rng(0).permutation(len(values))
    models = [
        MatrixCompletion(random_state=0).fit(given)
        for given in (np.ma.masked_invalid(known), stored, stored.tocsr(), stored.tocsc())
    ]
    models.append(
        MatrixCompletion(random_state=0).fit_entries(
            rows[mixed], columns[mixed], values[mixed], shape
        )
    )
    for model in models:
        np.testing.assert_array_equal(model.completed_, expected.completed_)
        assert model.n_features_in_ == 20


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rows": [0, 30]}, ValueError, "rows: expected 0 <= index < 30 but got 0 to 30"),
        ({"columns": [-1, 1]}, ValueError, "columns: expected 0 <= index < 20 but got -1 to 1"),
        ({"rows": [0.0, 1.0]}, TypeError, "rows: expected integers but got float64"),
        ({"columns": [1]}, ValueError, "columns: expected a list as long as values"),
        ({"values": [1.0, np.nan]}, ValueError, "values: expected finite numbers"),
        ({"rows": [3, 3], "columns": [5, 5]}, ValueError, r"once but got \(3, 5\) more than once"),
        ({"shape": (30,)}, ValueError, "shape: expected two numbers"),
        ({}, ValueError, "in 18 of 20"),
    ],
)  # fmt: skip
def test_unusable_entries_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"rows": [0, 1], "columns": [0, 1], "values": [1.0, 2.0], "shape": (30, 20)}
    with pytest.raises(error, match=message):
        MatrixCompletion().fit_entries(**given | changes)


def test_new_rows_of_the_same_space_are_completed() -> None:
    whole = low_rank(60, 20, 2, 1200, seed=2)
    known = whole.known.copy()
    known[np.random.default_rng(0).random(known.shape) < 0.5] = np.nan
    model = MatrixCompletion(random_state=0).fit(known[:40])
    np.testing.assert_allclose(model.transform(known[40:]), whole.truth[40:], atol=1e-9)
    assert model.score(known[40:]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal(model.predict(known[40:]), model.transform(known[40:]))
    other = np.random.default_rng(1).normal(size=(40, 20))
    assert model.score(other) < 0


def test_a_new_row_is_given_its_conditional_mean() -> None:
    problem = low_rank(noise=0.2)
    model = MatrixCompletion(random_state=0).fit(problem.known + 2)
    learned = model._learned
    rows = low_rank(8, 20, 2, 80, seed=5).known + 2
    mean = model.centre_ + model.right_ @ learned.prior.mean
    covariance = model.right_ @ learned.prior.covariance @ model.right_.T
    for row, found in zip(rows, model.transform(rows), strict=True):
        seen = ~np.isnan(row)
        inner = covariance[np.ix_(seen, seen)] + np.diag(model.noise_variance_[seen])
        expected = mean + covariance[:, seen] @ np.linalg.solve(inner, (row - mean)[seen])
        np.testing.assert_allclose(found[~seen], expected[~seen], atol=1e-9)
    nothing = model.transform(np.full((1, 20), np.nan))
    np.testing.assert_allclose(nothing[0], mean, atol=1e-12)


def test_a_constant_column_does_not_change_new_rows() -> None:
    known = low_rank(noise=0.2).known + 2
    wider = np.insert(known, 7, 3.5, axis=1)
    model, other = (MatrixCompletion(random_state=0).fit(each) for each in (known, wider))
    rows = np.where(np.arange(20) % 3, known[:8], np.nan)  # of the learned space
    found = other.transform(np.insert(rows, 7, 3.5, axis=1))
    without = np.delete(found, 7, axis=1)
    spread = np.nanstd(known)
    np.testing.assert_allclose(without, model.transform(rows), atol=0.15 * spread)
    np.testing.assert_array_equal(found[:, 7], 3.5)
    hidden = np.full((1, 21), np.nan)
    assert other.transform(hidden)[0, 7] == pytest.approx(3.5, rel=1e-2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1e-280, 1e-200, 1e-8, 1e150])
def test_huge_and_tiny_numbers(factor: float) -> None:
    problem = low_rank()
    model = MatrixCompletion(random_state=0).fit(factor * problem.known)
    assert model.exact_
    np.testing.assert_allclose(model.completed_ / factor, problem.truth, atol=1e-6)


DEGENERATE = {
    "one column": np.array([[1.0], [2.0], [np.nan], [4.0]]),
    "one row": np.array([[1.0, 2.0, 3.0]]),
    "one entry": np.array([[3.0]]),
    "two by two": np.array([[1.0, 2.0], [3.0, np.nan]]),
    "equal": np.where(np.eye(5, 4) > 0, np.nan, 0.1),
    "zeros": np.where(np.eye(5, 4) > 0, np.nan, 0.0),
    "truth values": np.where(np.eye(9, 6) > 0, np.nan, np.arange(54).reshape(9, 6) % 3 == 0),
    "constant column": np.where(np.arange(20) == 3, 7.5, low_rank().known),
    "integers": np.ma.array(np.arange(54).reshape(9, 6) ** 2 % 7, mask=np.eye(9, 6) > 0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tables(name: str) -> None:
    given = DEGENERATE[name]
    known = np.ma.filled(np.ma.asarray(given).astype(float), np.nan)
    filled = MatrixCompletion(random_state=0).fit_transform(given)
    seen = ~np.isnan(known)
    np.testing.assert_array_equal(filled[seen], known[seen])
    assert np.isfinite(filled).all()
    if name in ("one column", "equal", "zeros"):
        means = np.broadcast_to(np.nanmean(known, axis=0), known.shape)
        np.testing.assert_allclose(filled[~seen], means[~seen], rtol=1e-12)


def test_ctrl_c_leaves_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = low_rank(noise=0.3).known
    search, calls = recipe.Recipe.see, 0

    def interrupted(self: Any, *what: Any) -> None:
        nonlocal calls
        calls += 1
        search(self, *what)
        if calls == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(recipe.Recipe, "see", interrupted)
    model = MatrixCompletion(random_state=0)
    with pytest.warns(ConvergenceWarning, match="interrupted: the fit keeps"):
        model.fit(known)
    assert model.decision_["method"] == "interrupted"
    assert np.isnan(model.predict(0, 0, return_std=True)[1])  # nobody knows it
    assert np.isfinite(model.transform(known)).all()


def test_ctrl_c_before_anything_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MatrixCompletion(random_state=0).fit(low_rank().known)
    before = dict(vars(model))
    monkeypatch.setattr(recipe, "search", lambda *a: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        model.fit(low_rank(seed=1).known)
    assert vars(model) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype: type) -> None:
    problem = low_rank()
    model = MatrixCompletion(random_state=0).fit(problem.known.astype(dtype))
    assert model.exact_
    for name in ATTRIBUTES:
        assert getattr(model, name).dtype == dtype, name
    assert model.transform(problem.known.astype(dtype)).dtype == dtype
    tolerance = 1e-10 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(model.completed_, problem.truth, atol=tolerance)


def test_copies_pickles_and_memory_maps(tmp_path: Any) -> None:
    known = low_rank(noise=0.1).known
    model = MatrixCompletion(random_state=0).fit(known)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(known), model.transform(known))
    assert not hasattr(clone(model), "completed_")
    np.save(tmp_path / "known.npy", known)
    mapped = np.load(tmp_path / "known.npy", mmap_mode="r")
    other = MatrixCompletion(random_state=0).fit(mapped)
    np.testing.assert_array_equal(other.completed_, model.completed_)


def test_pandas_in_and_out() -> None:
    pandas = pytest.importorskip("pandas")
    known = low_rank().known
    names = [f"c{number}" for number in range(20)]
    frame = pandas.DataFrame(known, columns=names)
    model = MatrixCompletion(random_state=0).set_output(transform="pandas")
    filled = model.fit_transform(frame)
    assert list(filled.columns) == list(model.get_feature_names_out()) == names
    np.testing.assert_array_equal(
        filled.to_numpy(), MatrixCompletion(random_state=0).fit_transform(known)
    )


@pytest.mark.parametrize("verbose", [0, 1])
def test_the_bar_has_an_end(verbose: int, capsys: pytest.CaptureFixture[str]) -> None:
    MatrixCompletion(random_state=0, verbose=verbose).fit(low_rank().known)
    shown = capsys.readouterr().err
    assert ("100%" in shown) == bool(verbose)
    assert verbose or not shown


def test_random_state_decides() -> None:
    known = low_rank(noise=0.5, observed=250).known
    first, same = (MatrixCompletion(random_state=3).fit(known).completed_ for _ in range(2))
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ((30, 0), IndexError, "rows: expected 0 <= index < 30 but got 30"),
        ((0, -1), IndexError, "columns: expected 0 <= index < 20 but got -1"),
        ((0.5, 0), TypeError, "rows: expected integers but got float64"),
    ],
)
def test_entries_outside_of_the_table_are_refused(
    place: tuple[float, float], error: type[Exception], message: str
) -> None:
    model = MatrixCompletion(random_state=0).fit(low_rank(30, 20, 1, 300).known)
    with pytest.raises(error, match=message):
        model.predict(*place)


def test_a_shape_that_is_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="shape: expected two numbers >= 1 but got 5"):
        MatrixCompletion().fit_entries([0], [0], [1.0], 5)


@pytest.mark.parametrize("column", [[3.0, np.nan, 5.0], [1.0, np.nan, 5.0], [-1.0, 2.0, np.nan]])
def test_one_column_gets_its_mean(column: list[float]) -> None:
    found = MatrixCompletion(random_state=0).fit(np.array(column)[:, None])
    np.testing.assert_allclose(found.completed_, np.nanmean(column), atol=1e-12)
