"""The convex baselines against a general solver and against their own optimality conditions."""

import math
from collections.abc import Callable

import cvxpy
import pytest
import torch
from torch import Tensor

from virtualdepth.data import low_rank_problem
from virtualdepth.maths import nuclear_norm
from virtualdepth_lab.reproduce.convex import (
    minimise_nuclear_norm,
    soft_impute,
    soft_impute_held_out,
)


@pytest.mark.parametrize(("observed", "seed"), [(40, 0), (40, 1), (90, 2)])
def test_nuclear_norm_against_a_general_solver(observed: int, seed: int) -> None:
    problem = low_rank_problem(12, 2, observed, seed)
    found = minimise_nuclear_norm(problem.truth, problem.mask, gap=1e-5)
    assert -1e-12 <= found.gap <= 1e-5
    torch.testing.assert_close(
        found.weight * problem.mask, problem.truth * problem.mask, rtol=0, atol=1e-12
    )
    variable = cvxpy.Variable((12, 12))
    mask = problem.mask.numpy()
    fits = cvxpy.multiply(mask, variable) == mask * problem.truth.numpy()
    smallest = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(variable)), [fits]).solve(
        solver=cvxpy.CLARABEL
    )
    assert float(nuclear_norm(found.weight)) == pytest.approx(smallest, rel=2e-5)


def test_gap_is_honest_before_convergence() -> None:
    problem = low_rank_problem(12, 2, 60, 3)
    rough = minimise_nuclear_norm(problem.truth, problem.mask, gap=0, max_iterations=25)
    fine = minimise_nuclear_norm(problem.truth, problem.mask, gap=1e-5)
    excess = 1 - float(nuclear_norm(fine.weight)) / float(nuclear_norm(rough.weight))
    assert excess <= rough.gap


def test_soft_impute_is_optimal() -> None:
    problem = low_rank_problem(12, 2, 80, 4)
    threshold = 1.0
    found = soft_impute(problem.truth, problem.mask, threshold, tol=1e-12, max_iterations=20_000)
    residual = (problem.truth - found) * problem.mask
    # the subgradient: lambda times the singular directions of X, plus what is smaller than lambda
    u, sigma, vh = torch.linalg.svd(found)
    rank = int((sigma > 1e-8).sum())
    assert float(torch.linalg.matrix_norm(residual, 2)) == pytest.approx(threshold, rel=1e-6)
    inner = u[:, :rank].T @ residual @ vh[:rank].T
    torch.testing.assert_close(
        inner, threshold * torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_held_out_choice_completes_an_easy_problem() -> None:
    problem = low_rank_problem(20, 1, 250, 5)
    completed, threshold = soft_impute_held_out(problem.truth, problem.mask)
    assert threshold > 0
    assert problem.error(completed) < 0.05


Method = Callable[[Tensor, Tensor], Tensor]
METHODS: dict[str, Method] = {
    "nuclear norm": lambda data, mask: minimise_nuclear_norm(data, mask).weight,
    "SoftImpute": lambda data, mask: soft_impute(data, mask, 0.1),
    "held out": lambda data, mask: soft_impute_held_out(data, mask)[0],
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@methods
@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf, 1e300])
def test_what_was_not_observed_does_not_matter(method: Method, unknown: float) -> None:
    problem = low_rank_problem(8, 1, 40, 0)
    expected = method(problem.truth * problem.mask, problem.mask)
    data = torch.where(problem.mask > 0, problem.truth, unknown)
    assert torch.equal(method(data, problem.mask), expected)
    assert torch.equal(method(data, problem.mask > 0), expected)


@methods
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_was_observed_has_to_be_finite(method: Method, bad: float) -> None:
    data, mask = torch.eye(3), torch.ones(3, 3)
    data[1, 2] = bad
    with pytest.raises(ValueError, match="data: expected finite numbers where observed but got"):
        method(data, mask)


@methods
def test_shapes_have_to_agree(method: Method) -> None:
    with pytest.raises(ValueError, match=r"mask: expected the shape \(3, 3\) .* got \(1, 3\)"):
        method(torch.eye(3), torch.ones(1, 3))


@methods
def test_of_nothing_zeros_are_made(method: Method) -> None:
    zeros = torch.zeros(3, 4)
    assert torch.equal(method(zeros, torch.ones(3, 4)), zeros)
    assert torch.equal(method(zeros + 1, zeros), zeros)
    assert minimise_nuclear_norm(zeros, zeros).gap == 0
