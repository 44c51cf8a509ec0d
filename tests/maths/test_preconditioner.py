"""P_W as a map and the slopes of the singular values, against derivatives and literal formulas."""

import pytest
import torch
from tests.maths.matrices import SHAPES, gaussian

from virtualdepth.maths import precondition, preconditioner
from virtualdepth.maths._reference import precondition_literally

CASES = [shape for shape in SHAPES if max(shape) < 40]


@pytest.mark.parametrize("shape", CASES)
def test_slopes_are_derivatives_of_the_singular_values(shape: tuple[int, int]) -> None:
    weight, matrix, reach = gaussian(*shape, seed=1), gaussian(*shape, seed=2), 1e-5
    change = torch.linalg.svdvals(weight + reach * matrix)
    change = (change - torch.linalg.svdvals(weight - reach * matrix)) / (2 * reach)
    p_w = preconditioner(weight, 3.0)
    torch.testing.assert_close(p_w.slopes(matrix), change, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(p_w.apply(matrix).slopes, p_w.slopes(matrix))
    torch.testing.assert_close(p_w.singular_values, torch.linalg.svdvals(weight))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_one_decomposition_serves_many_matrices(depth: int) -> None:
    weight, many = gaussian(4, 4, seed=3), gaussian(3, 4, 4, seed=4)
    p_w = preconditioner(weight, float(depth))
    expected = torch.stack([precondition_literally(weight, each, depth) for each in many])
    for found in (
        p_w.apply(many).direction,
        torch.stack([p_w.apply(each).direction for each in many]),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_a_batch_is_its_matrices(shape: tuple[int, int]) -> None:
    weights, matrices = gaussian(2, *shape, seed=5), gaussian(2, *shape, seed=6)
    together = preconditioner(weights, 2.5)
    for number in range(2):
        alone = preconditioner(weights[number], 2.5)
        for one, other in (
            (together.slopes(matrices)[number], alone.slopes(matrices[number])),
            (together.apply(matrices).direction[number], alone.apply(matrices[number]).direction),
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [1, 2, 3.5, 4])
@pytest.mark.parametrize("shape", CASES)
def test_squared_norm(shape: tuple[int, int], depth: float) -> None:
    weight, matrix = gaussian(*shape, seed=7), gaussian(*shape, seed=8)
    found = preconditioner(weight, float(depth)).squared_norm(matrix)
    expected = (matrix * precondition(weight, matrix, depth)).sum()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", CASES)
def test_trailing_norms(shape: tuple[int, int]) -> None:
    weight, matrix = gaussian(*shape, seed=9), gaussian(*shape, seed=10)
    u, sigma, vh = torch.linalg.svd(weight)
    expected = [(u[:, r:].T @ matrix @ vh[r:].T).norm() for r in range(len(sigma))]
    found = preconditioner(weight, 3.0).trailing_norms(matrix)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (2, 4, 9), (2, 9, 4)])
def test_the_direction_is_laid_out_as_its_matrix(shape: tuple[int, ...]) -> None:
    # what passes over a transposed matrix afterwards takes three times as long
    found = preconditioner(gaussian(*shape, seed=1), 3.0).apply(gaussian(*shape, seed=2))
    assert found.direction.is_contiguous()
