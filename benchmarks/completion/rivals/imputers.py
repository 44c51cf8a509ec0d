"""scikit-learn's imputers, SoftImpute and the least nuclear norm."""

import warnings
from itertools import product
from typing import Any

import numpy as np
import torch
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals.held_out import Answer, choose
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import Ridge

from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm, soft_impute_held_out

PENALTIES = (1.0, 10.0, 100.0)
NEIGHBOURS = (2, 5, 10, 20, 40)


def column_means(known: Floats, rank: int | None, seed: int) -> Answer:
    means = np.nan_to_num(np.nanmean(known, axis=0))
    return Answer(np.where(np.isnan(known), means, known))


def impute(imputer: Any, known: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(imputer.fit_transform(known))


def iterative(known: Floats, rank: int | None, seed: int) -> Answer:
    """As it comes: Bayesian ridge regressions, ten rounds."""
    imputer = IterativeImputer(random_state=seed, keep_empty_features=True)
    return Answer(impute(imputer, known))


def iterative_ridge(known: Floats, rank: int | None, seed: int) -> Answer:
    """Ridge regressions, with the penalty by held-out entries."""

    def fill(x: Floats, alpha: float, rounds: int = 2) -> Floats:
        ridge = Ridge(alpha=alpha)
        imputer = IterativeImputer(
            ridge, max_iter=rounds, random_state=seed, keep_empty_features=True
        )
        return impute(imputer, x)

    chosen = choose(known, seed, PENALTIES, fill)
    return Answer(fill(known, chosen, 10), note=f"alpha {chosen:g}")


def neighbours(known: Floats, rank: int | None, seed: int) -> Answer:
    """The number of neighbours and their weights by held-out entries."""

    def fill(x: Floats, setting: tuple[int, str]) -> Floats:
        imputer = KNNImputer(n_neighbors=setting[0], weights=setting[1], keep_empty_features=True)
        return impute(imputer, x)

    chosen = choose(known, seed, list(product(NEIGHBOURS, ("uniform", "distance"))), fill)
    return Answer(fill(known, chosen), note=f"{chosen[0]} {chosen[1]}")


def as_tensors(known: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.from_numpy(~np.isnan(known)).double()
    return torch.from_numpy(np.nan_to_num(known)), mask


def soft_impute(known: Floats, rank: int | None, seed: int) -> Answer:
    """The threshold by held-out entries."""
    completed, threshold = soft_impute_held_out(*as_tensors(known), seed=seed)
    return Answer(completed.numpy(), note=f"threshold {threshold:.2g}")


def nuclear_norm(known: Floats, rank: int | None, seed: int) -> Answer:
    found = minimise_nuclear_norm(*as_tensors(known), max_iterations=2000)
    return Answer(found.weight.numpy(), note=f"gap {found.gap:.0e}")
