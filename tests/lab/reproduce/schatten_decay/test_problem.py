"""The convex solver and the proximal method agree; depth 2 goes there."""

from itertools import islice

import pytest
import torch

from virtualdepth_lab.reproduce.schatten_decay.problem import (
    convex_solution,
    decayed_steps,
    make_problem,
    proximal_steps,
    rank_of,
    steps_to,
)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_two_ways_to_the_convex_solution_agree(share: float) -> None:
    problem = make_problem(1)
    decay = share * problem.largest_decay()
    convex = convex_solution(problem, decay)
    proximal = next(islice(proximal_steps(problem, decay), 2000, None))
    torch.testing.assert_close(proximal, convex, rtol=0, atol=1e-6)
    best = problem.objective(proximal, decay, 2)
    aside = 1e-3 * make_problem(2).truth
    assert min(problem.objective(proximal + h, decay, 2) for h in (-aside, aside)) > best


def test_nothing_is_left_at_the_largest_decay() -> None:
    problem = make_problem(0)
    convex = convex_solution(problem, 1.001 * problem.largest_decay())
    assert convex.norm() < 1e-6
    assert rank_of(torch.zeros(3, 4, dtype=torch.float64)) == 0
    assert convex_solution(problem, 0.9 * problem.largest_decay()).norm() > 1e-2


def test_the_gradient_is_that_of_the_loss() -> None:
    problem = make_problem(2)
    gram, cross = problem.moments
    weight = torch.ones_like(problem.truth).requires_grad_()
    residual = problem.inputs @ weight.mT - problem.targets
    (residual.square().sum() / (2 * len(problem.inputs))).backward()
    torch.testing.assert_close(weight.grad, weight.detach() @ gram - cross, rtol=1e-12, atol=1e-12)


def test_depth_two_lowers_its_objective_and_arrives() -> None:
    problem = make_problem(0)
    decay = 0.5 * problem.largest_decay()
    convex = convex_solution(problem, decay)
    least = problem.objective(convex, decay, 2)
    steps = islice(decayed_steps(problem, decay, 2), 400)
    values = [problem.objective(weight, decay, 2) for weight in steps]
    assert values == sorted(values, reverse=True)
    assert least < values[-1] < 1.001 * least
    assert steps_to(iter([1.0, 0.5, -1.0, -2.0]), lambda value: value, 4) == 3
    assert steps_to(iter([1.0, 0.5]), lambda value: value, 2) is None
