"""Commuting measurements: their gradient, and the solutions of the contradiction."""

import pytest
import torch

from virtualdepth_lab.reproduce.norms.problem import contradiction, random_problem


def test_contradiction_has_the_solutions_it_claims() -> None:
    problem = contradiction()
    for solution in ([0.0, 0.0, 2.2], [1.0, 1.0, 0.0]):
        weight = torch.diag(torch.tensor(solution, dtype=torch.float64))
        assert float(problem.objective(weight)[1]) < 1e-20
    assert problem.smallest_nuclear_norm() == pytest.approx(2)


def test_gradient_of_measurements() -> None:
    problem = random_problem(0)
    weight = torch.eye(6, dtype=torch.float64).requires_grad_()
    loss = problem.objective(weight)[1]
    (expected,) = torch.autograd.grad(loss, weight)
    found = problem.objective(weight.detach())[0]
    torch.testing.assert_close((found + found.T) / 2, (expected + expected.T) / 2)
