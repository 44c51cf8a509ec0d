"""What the flow learns, against truths that it does not compute itself."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from tests.estimators.problems import low_rank, mean_square

from virtualdepth.estimators import MatrixCompletion
from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm, soft_impute_held_out

Flow = partial(MatrixCompletion, "flow")


@pytest.mark.parametrize(
    ("depth", "columns", "observed", "bound"),
    [
        (2, 20, 330, 1e-3),
        (3, 20, 330, 1e-4),
        (np.int64(4), 20, 330, 1e-4),
        (2.5, 20, 330, 1e-4),
        (math.inf, 30, 500, 1e-3),
    ],
)
def test_a_matrix_of_low_rank_is_recovered(
    depth: float, columns: int, observed: int, bound: float
) -> None:
    problem = low_rank(columns=columns, observed=observed)
    model = Flow(depth=depth, tol=1e-5, validation_fraction=0, random_state=0)
    filled = model.fit_transform(problem.known)
    assert mean_square(filled - problem.truth) < bound
    assert mean_square(model.completed_ - problem.truth) < bound
    fit = mean_square((model.completed_ - problem.known)[~problem.missing])
    assert fit <= 1e-5 * np.nanmean(problem.known**2) * (1 + 1e-10)
    assert model.effective_rank_ == pytest.approx(2, abs=0.2)


def test_few_entries_are_enough_where_convex_methods_fail() -> None:
    problem = low_rank(40, 40, 2, observed=400, seed=2)
    data = torch.from_numpy(np.nan_to_num(problem.known))
    mask = torch.from_numpy(~problem.missing).double()
    nuclear = minimise_nuclear_norm(data, mask).weight.numpy()
    soft, _ = soft_impute_held_out(data, mask)
    model = Flow(random_state=0).fit(problem.known)
    error = mean_square(model.completed_ - problem.truth)
    assert error < 1e-3
    assert error < 0.05 * mean_square(nuclear - problem.truth)
    assert error < 0.05 * mean_square(soft.numpy() - problem.truth)


@pytest.mark.parametrize("seed", [0, 1])
def test_early_stopping_is_as_good_as_knowing_the_rank(seed: int) -> None:
    # all entries observed with noise: the best matrix of the right rank is the truncated SVD
    problem = low_rank(observed=600, seed=seed, noise=0.2)
    u, sigma, vh = np.linalg.svd(problem.known)
    best = (u[:, :2] * sigma[:2]) @ vh[:2]
    model = Flow(random_state=0).fit(problem.known)
    error = mean_square(model.completed_ - problem.truth)
    assert error < 1.1 * mean_square(best - problem.truth)
    assert error < 0.3 * 0.2**2
    assert model.noise_variance_ == pytest.approx(0.2**2, rel=0.7)  # of 60 entries


def test_early_stopping_beats_fitting_the_noise() -> None:
    problem = low_rank(observed=400, noise=0.2)
    errors = [
        mean_square(
            Flow(validation_fraction=share, tol=1e-3, random_state=0).fit(problem.known).completed_
            - problem.truth
        )
        for share in (0, 0.1)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_spectrum_is_that_of_what_was_completed() -> None:
    problem = low_rank(noise=0.1)
    model = Flow(centre=True, tol=0.02, random_state=0).fit(problem.known + 3)
    sigma = np.linalg.svd(model.completed_ - model.centre_, compute_uv=False)
    np.testing.assert_allclose(model.singular_values_, sigma, rtol=0, atol=1e-10 * sigma[0])
    share = sigma / sigma.sum()
    assert model.effective_rank_ == pytest.approx(
        math.exp(-np.sum(share * np.log(share))), rel=1e-10
    )


def test_history_says_what_happened() -> None:
    problem = low_rank(noise=0.1, seed=3)
    model = Flow(random_state=0).fit(5 * problem.known)
    history = model.history_
    assert set(history) == {"loss", "search_loss", "validation_loss"}
    fit = mean_square((model.completed_ - 5 * problem.known)[~problem.missing])
    assert history["loss"][-1] == pytest.approx(fit, rel=1e-10)
    scale = mean_square(5 * problem.known[~problem.missing])
    assert history["loss"][0] == pytest.approx(scale, rel=0.01)  # the start is small
    assert len(history["search_loss"]) == len(history["validation_loss"])
    assert model.n_iter_ == len(history["loss"]) + len(history["search_loss"])
    best = np.argmin(history["validation_loss"])
    np.testing.assert_array_equal(model.noise_variance_, history["validation_loss"][best])
    assert history["loss"][-1] <= history["search_loss"][best] < history["loss"][-2]


def test_without_early_stopping_noise_is_the_loss() -> None:
    model = Flow(validation_fraction=0, random_state=0).fit(low_rank().known)
    assert set(model.history_) == {"loss"}
    np.testing.assert_array_equal(model.noise_variance_, model.history_["loss"][-1])
    assert model.n_iter_ == len(model.history_["loss"])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_held_out_entries_are_not_fitted() -> None:
    known = np.random.default_rng(0).normal(size=(5, 6))

    def search(flipped: int | None) -> tuple[list[float], list[float]]:
        changed = known.copy()
        if flipped is not None:
            changed.flat[flipped] *= -1  # the mean square, and so every unit, stays
        model = Flow(validation_fraction=0.2, max_iter=4, random_state=1).fit(changed)
        return model.history_["search_loss"].tolist(), model.history_["validation_loss"].tolist()

    fitted, judged = search(None)
    without_effect = 0
    for place in range(known.size):
        losses, held = search(place)
        assert losses != fitted or held != judged
        without_effect += losses == fitted
    assert without_effect == 6


def test_centre_is_the_mean_of_what_was_observed() -> None:
    problem = low_rank(noise=0.1)
    offset = np.arange(20.0)
    means = np.nanmean(problem.known + offset, axis=0)
    model = Flow(tol=0.02, centre=True, random_state=0).fit(problem.known + offset)
    np.testing.assert_allclose(model.centre_, means, rtol=0, atol=1e-12)
    other = Flow(tol=0.02, random_state=0).fit(problem.known + offset - means)
    np.testing.assert_allclose(model.completed_, other.completed_ + means, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("max_iter", [1, 20, 60, 100])
def test_a_search_cut_short_is_said(max_iter: int) -> None:
    # the last descent need not be: its aim is how far the first one came
    with pytest.warns(
        ConvergenceWarning, match="early stopping has not ended.*raise max_iter or tol"
    ):
        Flow(max_iter=max_iter, random_state=0).fit(low_rank().known)


def test_a_warm_start_does_not_see_what_is_held_out() -> None:
    known = low_rank(noise=0.3).known
    model = Flow(tol=0.02, warm_start=True, random_state=0).fit(known)
    first, error = model.n_iter_, model.noise_variance_
    model.fit(known)
    np.testing.assert_array_equal(model.noise_variance_, error)
    assert len(model.history_["loss"]) == 1
    assert model.n_iter_ < first


@pytest.mark.parametrize("fraction", [0, 0.1])
def test_a_warm_start_from_zeros_begins_anew(fraction: float) -> None:
    model = Flow(tol=1e-2, validation_fraction=fraction, warm_start=True, random_state=0)
    cold = model.fit(low_rank().known).completed_
    model = model.set_params(warm_start=False).fit(np.zeros((30, 20)))
    again = model.set_params(warm_start=True).fit(low_rank().known).completed_
    np.testing.assert_array_equal(again, cold)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_one_value_leave_nothing(dtype: type) -> None:
    # the mean of many 0.1 is not 0.1: the difference is no matrix to complete
    known = np.where(np.isnan(low_rank().known), np.nan, 0.1 + np.arange(20) / 7).astype(dtype)
    model = Flow(tol=0, centre=True, random_state=0).fit(known)
    assert model.n_iter_ <= 2
    assert model.effective_rank_ == 0
    np.testing.assert_allclose(
        model.completed_, np.broadcast_to(model.centre_, (30, 20)), rtol=0, atol=0
    )


@pytest.mark.parametrize("factor", [2.0**-30, 2.0**500])
def test_units_do_not_matter(factor: float) -> None:
    known = low_rank(noise=0.1).known
    expected = Flow(tol=0.02, random_state=0).fit_transform(known)
    found = Flow(tol=0.02, random_state=0).fit_transform(factor * known)
    np.testing.assert_allclose(found / factor, expected, rtol=0, atol=1e-12)


def test_random_state_decides() -> None:
    known = low_rank().known
    first, same, other = (
        Flow(tol=0.1, random_state=seed).fit(known).completed_ for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-8


def test_a_warm_start_goes_on() -> None:
    known = low_rank().known
    model = Flow(validation_fraction=0, tol=1e-3, warm_start=True, random_state=0)
    first = model.fit(known).n_iter_
    assert model.fit(known).n_iter_ == 1  # nothing left to do
    before = model.history_["loss"][-1]
    model.set_params(tol=1e-6).fit(known)
    assert model.history_["loss"][0] == pytest.approx(before, rel=1e-10)
    assert model.history_["loss"][-1] <= 1e-6 * np.nanmean(known**2)
    assert model.n_iter_ < first
    cold = Flow(validation_fraction=0, tol=1e-3, random_state=0)
    assert cold.fit(known).n_iter_ == cold.fit(known).n_iter_ == first


def test_a_warm_start_takes_new_entries() -> None:
    problem = low_rank()
    fewer = problem.known.copy()
    fewer[~problem.missing & (np.arange(20) % 7 == 3)] = np.nan
    fewer[0, 3::7] = problem.truth[0, 3::7]
    model = Flow(validation_fraction=0, warm_start=True, random_state=0).fit(fewer)
    model.fit(problem.known)
    assert mean_square(model.completed_ - problem.truth) < 1e-3


def test_unfinished_work_is_said() -> None:
    with pytest.warns(ConvergenceWarning, match=r"max_iter=20 gradients.*raise max_iter or tol"):
        model = Flow(max_iter=20, random_state=0).fit(low_rank().known)
    assert all(len(losses) <= 24 for losses in model.history_.values())


def test_zeros_stay_zeros() -> None:
    known = np.zeros((4, 3))
    known[0, 1] = np.nan
    model = Flow(random_state=0).fit(known)
    np.testing.assert_array_equal(model.completed_, np.zeros((4, 3)))
    np.testing.assert_array_equal(model.transform([[0.0, np.nan, np.nan]]), np.zeros((1, 3)))
    assert model.effective_rank_ == 0


def test_pure_noise_is_predicted_by_its_mean() -> None:
    known = 5 + np.random.default_rng(0).normal(size=(30, 30))
    known[np.random.default_rng(1).random(known.shape) < 0.7] = np.nan
    model = Flow(centre=True, random_state=0).fit(known)
    away = model.completed_ - np.nanmean(known, axis=0)
    assert mean_square(away[np.isnan(known)]) < 0.2  # fitting it all gives about 1
