"""The two-loop recursion with P_W against scipy's, and the equations that define it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LbfgsInvHessProduct
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth.maths import (
    Preconditioner,
    Secant,
    barzilai_borwein_length,
    inner_product,
    precondition,
    preconditioner,
    quasi_newton,
    secants,
)
from virtualdepth.maths._quasi_newton import Matrices

GROUPS = [[(4, 4)], [(3, 5)], [(5, 3)], [(1, 4)], [(3, 3), (2, 4)], [(2, 2), (4, 1), (3, 2)]]


def flat(matrices: Matrices) -> Tensor:
    return torch.cat([matrix.flatten() for matrix in matrices])


def group(shapes: list[tuple[int, int]], seed: int) -> list[Tensor]:
    return [gaussian(*shape, seed=seed + 0.1 * i) for i, shape in enumerate(shapes)]


def on_a_quadratic(shapes: list[tuple[int, int]], count: int, seed: int) -> list[Secant]:
    """Random steps, and what a random positive definite Hessian makes of them."""
    size = sum(m * n for m, n in shapes)
    root = gaussian(size, size, seed=seed)
    hessian = root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)
    found = []
    for number in range(count):
        step = group(shapes, seed + number + 1)
        pieces = (hessian @ flat(step)).split([m * n for m, n in shapes])
        change = [piece.view(s) for piece, s in zip(pieces, shapes, strict=True)]
        found.append(Secant(step, change, inner_product(step, change)))
    return found


def dense(weights: Matrices, depth: float) -> Tensor:
    """P_W of the whole group as one matrix, column by column."""
    blocks = []
    for weight in weights:
        basis = torch.eye(weight.numel(), dtype=torch.float64).view(-1, *weight.shape)
        blocks.append(torch.stack([precondition(weight, e, depth).flatten() for e in basis]))
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 2, 3.5])
@pytest.mark.parametrize("shapes", GROUPS, ids=str)
def test_it_is_textbook_l_bfgs_where_the_preconditioner_is_the_identity(
    shapes: list[tuple[int, int]], depth: float, count: int
) -> None:
    # in the coordinates (gamma P)^{-1/2} W the first inverse Hessian is the identity, as scipy's
    weights, grads = group(shapes, 7), group(shapes, 8)
    known = on_a_quadratic(shapes, count, 100)
    found = quasi_newton(grads, [preconditioner(w, depth) for w in weights], known)
    assert found is not None
    p = dense(weights, depth)
    change = flat(known[0].change)
    gamma = known[0].curvature / (change @ p @ change)
    values, vectors = torch.linalg.eigh(gamma * p)
    root = vectors * values.sqrt() @ vectors.T
    back = vectors / values.sqrt() @ vectors.T
    oldest_first = known[::-1]
    product = LbfgsInvHessProduct(
        torch.stack([back @ flat(each.step) for each in oldest_first]).numpy(),
        torch.stack([root @ flat(each.change) for each in oldest_first]).numpy(),
    )
    expected = root @ torch.from_numpy(product @ (root @ flat(grads)).numpy())
    torch.testing.assert_close(flat(found), expected, rtol=1e-9, atol=1e-9)


def test_with_one_secant_what_it_does_not_tell_of_moves_by_barzilai_and_borwein() -> None:
    # N = 2 at W = 5 I: P = 10, and gamma = <y, s> / (10 <y, y>)
    step, change, grad = (
        torch.eye(3).double(),
        3 * torch.eye(3).double(),
        torch.zeros(3, 3).double(),
    )
    grad[0, 1] = 1
    p_w = preconditioner(5 * torch.eye(3).double(), 2.0)
    found = quasi_newton([grad], [p_w], [Secant([step], [change], 9.0)])
    assert found is not None
    torch.testing.assert_close(found[0], 9 / (10 * 27) * 10 * grad, rtol=1e-10, atol=1e-10)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Preconditioner], list[Secant], int]:
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3))
    seed, depth = draw(st.integers(0, 10**5)), draw(st.floats(1, 20))
    preconditioners = [preconditioner(weight, depth) for weight in group(shapes, seed)]
    return preconditioners, on_a_quadratic(shapes, draw(st.integers(1, 5)), seed), seed


def apply(preconditioners: list[Preconditioner], known: list[Secant], grads: Matrices) -> Matrices:
    found = quasi_newton(grads, preconditioners, known)
    assert found is not None
    return found


@given(problems())
def test_secant_equation(problem: tuple[list[Preconditioner], list[Secant], int]) -> None:
    preconditioners, known, _ = problem
    step = flat(apply(preconditioners, known, known[0].change))
    expected = flat(known[0].step)
    assert (step - expected).norm() <= 1e-10 * expected.norm()


@given(problems())
def test_self_adjoint_and_a_descent(
    problem: tuple[list[Preconditioner], list[Secant], int],
) -> None:
    preconditioners, known, seed = problem
    shapes = [tuple(matrix.shape) for matrix in known[0].step]
    one, other = group(shapes, seed + 50), group(shapes, seed + 60)
    of_one, of_other = apply(preconditioners, known, one), apply(preconditioners, known, other)
    scale = flat(of_one).norm() * flat(other).norm() + flat(of_other).norm() * flat(one).norm()
    assert abs(inner_product(other, of_one) - inner_product(one, of_other)) <= 1e-10 * scale
    assert inner_product(one, of_one) > 0


def test_secants_end_at_the_first_step_without_curvature() -> None:
    weights = [[torch.tensor([[value]])] for value in (5.0, 4.0, 3.0, 2.0, 1.0)]
    grads = [[torch.tensor([[value]])] for value in (9.0, 7.0, 4.0, 4.0, 2.0)]
    found = secants(weights, grads)  # <dW, dG>: 2, 3, 0, 2
    assert [(float(s.step[0]), float(s.change[0]), s.curvature) for s in found] == [
        (1, 2, 2),
        (1, 3, 3),
    ]


def test_secants_add_up_over_the_matrices() -> None:
    # of one matrix alone the curvature is negative
    steps = [torch.tensor([[1.0]]), torch.tensor([[1.0, 1.0]])]
    changes = [torch.tensor([[-1.0]]), torch.tensor([[2.0, 3.0]])]
    zeros = [torch.zeros(1, 1), torch.zeros(1, 2)]
    assert [found.curvature for found in secants([steps, zeros], [changes, zeros])] == [4.0]


def test_no_step_without_a_secant_or_where_the_preconditioner_maps_the_change_to_zero() -> None:
    one, zero = torch.ones(2, 2), torch.zeros(2, 2)
    assert quasi_newton([one], [preconditioner(one, 2.0)], []) is None
    known = [Secant([one], [one], 4.0)]
    assert quasi_newton([one], [preconditioner(zero, 2.0)], known) is None


@pytest.mark.parametrize("shapes", GROUPS, ids=str)
def test_length_of_a_step_along_the_flow(shapes: list[tuple[int, int]]) -> None:
    weights, (last,) = group(shapes, 9), on_a_quadratic(shapes, 1, 200)
    change, p = flat(last.change), dense(weights, 3)
    found = barzilai_borwein_length([preconditioner(w, 3.0) for w in weights], last)
    assert found == pytest.approx(float(last.curvature / (change @ p @ change)), rel=1e-10)


def test_no_length_where_the_preconditioner_maps_the_change_to_zero() -> None:
    one, p_w = torch.ones(2, 2), preconditioner(torch.zeros(2, 2), 2.0)
    assert barzilai_borwein_length([p_w], Secant([one], [one], 4.0)) == float("inf")
