"""Every method of the comparison, behind one signature: (known, rank, seed) -> Answer."""

from collections.abc import Callable

import numpy as np
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals import (
    descent,
    factors,
    imputers,
    packaged,
    penalty,
    reweighted,
)
from benchmarks.completion.rivals.held_out import Answer

from virtualdepth.estimators import MatrixCompletion

Method = Callable[[Floats, int | None, int], Answer]
OURS = "MatrixCompletion"


def ours(known: Floats, rank: int | None, seed: int) -> Answer:
    model = MatrixCompletion(random_state=seed).fit(known)
    completed, deviation = model.predict(*np.indices(known.shape), return_std=True)
    note = f"{model.decision_['method']}, rank {model.rank_}"
    return Answer(completed, deviation, note, model.noise_variance_)


def flow(known: Floats, rank: int | None, seed: int) -> Answer:
    """The gradient flow of two layers, which stops where held-out entries say."""
    return Answer(MatrixCompletion(method="flow", depth=2, random_state=seed).fit(known).completed_)


# the rank is given to these
GIVEN_RANK: dict[str, Method] = {
    "MatrixIRLS": reweighted.matrix_irls,
    "HM-IRLS": reweighted.harmonic_irls,
    "GNMR": descent.gauss_newton,
    "ScaledGD": descent.scaled_gradient,
    "ALS": factors.als_given_rank,
}
# these choose what they need by held-out entries, or need nothing
CHOOSING: dict[str, Method] = {
    OURS: ours,
    "IterativeImputer": imputers.iterative,
    "IterativeImputer, tuned": imputers.iterative_ridge,
    "SoftImpute": imputers.soft_impute,
    "KNN": imputers.neighbours,
    "ALS, tuned": factors.als_held_out,
    "Bayes (Gibbs)": factors.gibbs_held_out,
    "column means": imputers.column_means,
}
if packaged.HAS_CMFREC:
    CHOOSING["cmfrec"] = packaged.cmfrec_held_out
OTHERS: dict[str, Method] = {
    "nuclear norm": imputers.nuclear_norm,
    "penalty of 2306.00342": penalty.penalised,
    "flow, depth 2": flow,
}
METHODS = GIVEN_RANK | CHOOSING | OTHERS
