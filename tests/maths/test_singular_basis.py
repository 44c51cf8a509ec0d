"""P in the basis that W had some steps ago: P of that W, whatever W is by now."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.tools import random_tensor
from tests.optim.truth import preconditioned_term_by_term
from torch import Tensor
from torch.testing import assert_close

import virtualdepth as vd
from virtualdepth.maths import STRUCTURES, SingularBasis

SHAPES = [("matrix", (4, 6)), ("matrix", (6, 4)), ("matrix", (3, 5, 5)), ("circulant", (3, 2, 5))]
DOUBLE = torch.float64


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_it_is_the_papers_sum(shape: tuple[int, int], depth: int) -> None:
    before, grad = random_tensor(shape, 1), random_tensor(shape, 2)
    matrix = STRUCTURES["matrix"]
    found = matrix.preconditioned_in(matrix.singular_basis(before), grad, depth)
    literal = torch.tensor(preconditioned_term_by_term(before.numpy(), grad.numpy(), depth))
    assert_close(found.direction, literal, rtol=0, atol=1e-10)
    u, sigma, vh = torch.linalg.svd(before, full_matrices=False)  # signs cancel in slopes
    assert_close(found.singular_values, sigma, rtol=0, atol=1e-12)
    assert_close(found.slopes, (u.T @ grad @ vh.T).diagonal(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("depth", [1.5, 3, math.inf])
@pytest.mark.parametrize("imbalance", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(1.0, 1.0), (1e-200, 1e150), (1e120, 1e-160)], ids=str)
def test_of_every_structure_in_every_range(
    name: str, shape: tuple[int, ...], depth: float, imbalance: float, sizes: tuple[float, float]
) -> None:
    if math.isinf(depth) and imbalance:
        return  # refused
    structure = STRUCTURES[name]
    weight, grad = (size * random_tensor(shape, i) for i, size in enumerate(sizes))
    found = structure.preconditioned_in(
        structure.singular_basis(weight), grad, depth, None, imbalance
    ).direction
    expected = vd.precondition(weight, grad, depth, structure=name, imbalance=imbalance)
    assert expected.abs().max() > 0
    peak = expected.abs().max()
    assert_close(found / peak, expected / peak, rtol=0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    depth=st.sampled_from([1.0, 1.5, 2.0, 3.0, 7.3, math.inf]),
    imbalance=st.sampled_from([0.0, 1e-3, 2.0]),
    zeros=st.integers(0, 6),
    seed=st.integers(0, 10**6),
)
def test_it_never_ascends_and_is_symmetric(
    rows: int, columns: int, depth: float, imbalance: float, zeros: int, seed: int
) -> None:
    """In any basis, with any spectrum: a stale P is positive semidefinite too."""
    if math.isinf(depth):
        imbalance = 0.0
    rank = min(rows, columns)
    left, right = (torch.linalg.qr(random_tensor((n, rank), seed + n)).Q for n in (rows, columns))
    values = torch.logspace(0, -3, rank, dtype=DOUBLE)
    values[rank - min(zeros, rank) :] = 0
    tall = rows > columns
    wide = (right, left.mT) if tall else (left, right.mT)
    basis = SingularBasis(wide[0], values, wide[1], tall)
    first, second = (random_tensor((rows, columns), seed + i) for i in (3, 4))

    def p(grad: Tensor) -> Tensor:
        return STRUCTURES["matrix"].preconditioned_in(basis, grad, depth, 0.0, imbalance).direction

    assert (first * p(first)).sum() >= -1e-12 * first.square().sum()
    assert_close((second * p(first)).sum(), (first * p(second)).sum(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=str)
def test_it_can_be_kept_as_real_numbers(name: str, shape: tuple[int, ...]) -> None:
    structure, weight, grad = STRUCTURES[name], random_tensor(shape, 1), random_tensor(shape, 2)
    basis = structure.singular_basis(weight)
    kept = basis.real()
    assert not any(each.is_complex() for each in kept)
    again = SingularBasis.from_real(*kept, tall=basis.tall)
    found, expected = (
        structure.preconditioned_in(each, grad, 3.0).direction for each in (again, basis)
    )
    assert torch.equal(found, expected)


def test_it_keeps_the_kernel_of_the_last_options() -> None:
    basis = STRUCTURES["matrix"].singular_basis(random_tensor((4, 4), 1))
    assert basis.built_tensors() == []
    first = basis.preconditioner(2.5)
    assert basis.preconditioner(2.5) is first
    assert basis.built_tensors() == [first.inside]
    other = basis.preconditioner(3.5)
    assert not torch.equal(other.inside, first.inside)


def test_only_blocks_that_are_matrices_are_decomposed() -> None:
    cases = {
        ("matrix", (3, 4)): True,
        ("matrix", (1, 4)): False,
        ("matrix", (2, 4, 1)): False,
        ("rows", (3, 4)): False,
        ("columns", (3, 4)): False,
        ("diagonal", (3, 4)): False,
        ("circulant", (3, 4)): False,
        ("circulant", (3, 4, 5)): True,
        ("circulant", (1, 4, 5)): False,
    }
    for (name, shape), expected in cases.items():
        assert STRUCTURES[name].decomposes(shape) is expected, (name, shape)
