"""The contracts of scikit-learn, of a caller who presses Ctrl-C, and of a new row."""

import copy
import pickle
import signal
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from tests.estimators.problems import low_rank, mean_square

import virtualdepth
from virtualdepth.estimators import MatrixCompletion
from virtualdepth.estimators import _descent as descent

# why a check of scikit-learn's is not run
SKIPPED = {
    "check_array_api_input": "X becomes torch tensors in the host's memory, whichever array library"
    " it comes from; scikit-learn itself runs the check only where SCIPY_ARRAY_API is set",
    "check_estimator_sparse_array": "predict gives a table, not one number for each row",
    "check_estimator_sparse_matrix": "predict gives a table, not one number for each row",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("method", [pytest.param("auto", marks=pytest.mark.slow), "flow"])
def test_every_check_of_scikit_learn_passes(method: str) -> None:
    # short descents: what is checked is the interface
    results = check_estimator(MatrixCompletion(method, max_iter=10), on_skip=None, on_fail=None)
    others = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    assert set(others) <= set(SKIPPED), others
    assert len(results) > 40


def test_new_rows_are_given_their_conditional_mean() -> None:
    problem = low_rank(noise=0.1)
    model = MatrixCompletion("flow", centre=True, tol=0.02, random_state=0).fit(problem.known + 2)
    weight = model.completed_ - model.centre_
    covariance = weight.T @ weight / len(weight)
    rows = low_rank(8, 20, 2, 80, seed=5).known
    filled = model.transform(rows)
    for row, found in zip(rows, filled, strict=True):
        seen = ~np.isnan(row)
        inner = covariance[np.ix_(seen, seen)] + np.diag(model.noise_variance_[seen])
        gain = np.linalg.solve(inner, (row - model.centre_)[seen])
        expected = model.centre_ + covariance[:, seen] @ gain
        np.testing.assert_allclose(found[~seen], expected[~seen], rtol=0, atol=1e-9)


def test_new_rows_of_the_same_space_are_completed() -> None:
    whole = low_rank(60, 20, 2, 1200, seed=2)
    known = whole.known.copy()
    known[np.random.default_rng(0).random(known.shape) < 0.5] = np.nan
    model = MatrixCompletion("flow", tol=1e-6, random_state=0).fit(known[:40])
    assert mean_square(model.transform(known[40:]) - whole.truth[40:]) < 1e-3


@pytest.mark.parametrize("fitted_before", [False, True])
@pytest.mark.parametrize(("depth", "after"), [(3, 1), (3, 90), (2.5, 9)])
def test_ctrl_c_leaves_the_last_fit(
    fitted_before: bool, depth: float, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MatrixCompletion(
        "flow", depth=depth, init_scale=0.1, tol=0.5, warm_start=True, random_state=0
    )
    if fitted_before:
        model.fit(low_rank().known)
    model.tol = 1e-4
    before = dict(vars(model))
    kept = copy.deepcopy(before)
    evaluate, calls = descent.Descent.evaluate, 0

    def interrupted(self: descent.Descent, weight: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after:
            signal.raise_signal(signal.SIGINT)
        return evaluate(self, weight)

    monkeypatch.setattr(descent.Descent, "evaluate", interrupted)
    model.warm_start = False
    with pytest.raises(KeyboardInterrupt):
        model.fit(low_rank(25, 17, observed=300).known)
    model.warm_start = True
    assert vars(model).keys() == before.keys()
    for name, value in vars(model).items():
        assert value is before[name]
        np.testing.assert_equal(value, kept[name])
    monkeypatch.undo()
    model.tol = 0.5
    assert model.fit(low_rank().known).completed_.shape == (30, 20)


def test_a_failed_fit_leaves_the_last() -> None:
    model = MatrixCompletion("flow", tol=1e-2, random_state=0).fit(low_rank().known)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="every column"):
        model.fit(np.array([[np.nan, 1.0], [np.nan, 2.0]]))
    assert vars(model) == before


def test_copies_and_pickles_fill_alike() -> None:
    known = low_rank().known
    model = MatrixCompletion("flow", tol=1e-2, random_state=0).fit(known)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.transform(known), model.transform(known))
    assert not hasattr(clone(model), "completed_")
    assert clone(model).get_params() == model.get_params()


def test_in_a_pipeline_with_named_columns() -> None:
    pandas = pytest.importorskip("pandas")
    known = low_rank().known
    names = [f"c{number}" for number in range(20)]
    pipeline = make_pipeline(StandardScaler(), MatrixCompletion("flow", tol=1e-2, random_state=0))
    filled = pipeline.set_output(transform="pandas").fit_transform(
        pandas.DataFrame(known, columns=names)
    )
    assert list(filled.columns) == names
    scaled = (known - np.nanmean(known, axis=0)) / np.nanstd(known, axis=0)
    expected = MatrixCompletion("flow", tol=1e-2, random_state=0).fit_transform(scaled)
    np.testing.assert_allclose(filled.to_numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_is_shown_on_demand(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    MatrixCompletion("flow", tol=1e-2, verbose=verbose, random_state=0).fit(low_rank().known)
    captured = capsys.readouterr()
    assert captured.out == ""
    for shown in ("early stopping", "fit", "gradient", "loss"):
        assert (shown in captured.err) == verbose
    assert verbose or captured.err == ""


def test_it_loads_on_first_use() -> None:
    # tests/test_architecture.py sees that it does not load before
    assert "estimators" in dir(virtualdepth)
    assert virtualdepth.estimators.MatrixCompletion is MatrixCompletion
