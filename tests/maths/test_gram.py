"""P_W(G) from sums over shards, against `precondition` on the whole matrix."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths.matrices import gaussian, with_spectrum
from torch import Tensor

from virtualdepth.maths import (
    GramPreconditioner,
    Preconditioned,
    gram_basis,
    gram_block,
    gram_block_size,
    gram_preconditioner,
    precondition,
    preconditioner,
    unit_scale,
)

EPS = torch.finfo(torch.float64).eps
DEPTHS = (1.5, 2, 3, math.pi, 8, 50, math.inf)
# (m, n) and how the rows are dealt out: even, uneven, with empty places at the ends and between
SPLITS = (
    ((6, 6), (3, 3)),
    ((9, 4), (3, 3, 3)),
    ((9, 4), (5, 4, 0)),
    ((40, 3), (0, 13, 0, 27)),
    ((7, 1), (4, 3)),
    ((1, 1), (1, 0)),
    ((4, 9), (2, 2)),
    ((1, 7), (0, 1)),
    ((3, 8), (1, 1, 1, 0)),
)


def in_shards(
    weight: Tensor, grad: Tensor, split: tuple[int, ...], depth: float, rtol: float = EPS
) -> Tensor | None:
    """Each place computes its block and, from the sum, its rows."""
    weights, grads = weight.split(split), grad.split(split)
    block = sum(map(gram_block, weights, grads), torch.zeros(gram_block_size(weight.shape[1])))
    factors = gram_preconditioner(block, (weight.shape[0], weight.shape[1]), depth, rtol)
    if factors is None:
        return None
    rows = [factors.apply(w, g).direction for w, g in zip(weights, grads, strict=True)]
    assert [len(each) for each in rows] == list(split)
    return torch.cat(rows)


def error(result: Tensor | None, truth: Tensor) -> float:
    assert result is not None
    return float((result - truth).norm() / truth.norm())


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("shape", "split"), SPLITS)
def test_shards_give_what_the_whole_matrix_gives(
    shape: tuple[int, int], split: tuple[int, ...], depth: float
) -> None:
    sigma = torch.linspace(1, 0.1, min(shape), dtype=torch.float64)
    weight, grad = with_spectrum(shape, sigma, seed=depth), gaussian(*shape, seed=1)
    truth = precondition(weight, grad, depth)
    assert error(in_shards(weight, grad, split, depth), truth) < 1e-12
    # columns that lie in several places: the rows of the transpose
    by_columns = in_shards(weight.T, grad.T, (shape[1], 0), depth)
    assert by_columns is not None
    assert error(by_columns.T, truth) < 1e-12


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("shape", "split"), [s for s in SPLITS if min(s[0]) > 3])
def test_of_deficient_rank(
    shape: tuple[int, int], split: tuple[int, ...], rank: int, depth: float
) -> None:
    sigma = torch.linspace(2, 1, rank, dtype=torch.float64)
    weight, grad = with_spectrum(shape, sigma), gaussian(*shape, seed=2)
    cut = 1e-6  # of a rank that the user knows
    truth = precondition(weight, grad, depth, rtol=cut)
    assert error(in_shards(weight, grad, split, depth, cut), truth) < 1e-12
    # zeros and what squaring makes of them cannot be told apart: no answer rather than a wrong one
    assert in_shards(weight, grad, split, depth) is None


def test_shards_alone_are_wrong() -> None:
    """What the sum is for: P_W on each shard by itself is another rule."""
    weight, grad = gaussian(6, 4, seed=1), gaussian(6, 4, seed=2)
    alone = [precondition(weight[r], grad[r], 3) for r in (slice(0, 3), slice(3, 6))]
    assert error(torch.cat(alone), precondition(weight, grad, 3)) > 0.1


@pytest.mark.parametrize("smallest", [1e-2, 1e-5, 2e-7, 5e-8, 1e-12])
def test_answers_down_to_the_floor(smallest: float) -> None:
    weight = with_spectrum((9, 4), torch.tensor([1.0, 0.5, 0.2, smallest], dtype=torch.float64))
    answer = in_shards(weight, gaussian(9, 4), (5, 4), 3.0)
    assert (answer is not None) == (smallest > 1e-7)


@pytest.mark.parametrize(
    ("smallest", "depth", "most"),
    [
        (1e-3, 2, 1e-13),
        (1e-3, 8, 2e-12),
        (1e-3, math.inf, 5e-12),
        (1e-5, 2, 1e-11),
        (1e-5, 8, 5e-9),
        (1e-5, math.inf, 5e-8),
        (2e-7, 2, 5e-10),
        (2e-7, 8, 5e-6),
        (2e-7, math.inf, 5e-5),
    ],
)
def test_digits_lost_towards_the_floor(smallest: float, depth: float, most: float) -> None:
    """Squaring costs digits that the decomposition of W itself keeps; the docs say how many."""
    sigma = torch.logspace(0, math.log10(smallest), 60, dtype=torch.float64)
    weight, grad = with_spectrum((200, 60), sigma), gaussian(200, 60, seed=3)
    result = in_shards(weight, grad, (90, 110), depth)
    assert error(result, precondition(weight, grad, depth)) < most


@pytest.mark.parametrize("size", [0.0, 1e-170, 1e170, math.nan, math.inf])
def test_no_answer_out_of_range(size: float) -> None:
    assert (
        in_shards(size * torch.ones(3, 1, dtype=torch.float64), gaussian(3, 1), (2, 1), 2) is None
    )


@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_answers_within_range(size: float) -> None:
    weight, grad = size * gaussian(5, 3, seed=1), gaussian(5, 3, seed=2)
    truth = precondition(weight, grad, 3)
    assert error(in_shards(weight, grad, (2, 3), 3), truth) < 1e-12


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_weights_keep_their_digits(dtype: torch.dtype, depth: float) -> None:
    """Against the rule in float64 on the same weights: six decades cost float32 no digits."""
    sigma = torch.logspace(0, -6, 5, dtype=torch.float64)
    weight = with_spectrum((12, 5), sigma).to(dtype)
    grad = gaussian(12, 5, dtype=dtype)
    rtol = torch.finfo(torch.float32).eps
    result = in_shards(weight, grad, (5, 7), depth, rtol)
    truth = precondition(weight.double(), grad.double(), depth, rtol=rtol)
    assert result is not None
    assert result.dtype == torch.float32
    assert error(result.double(), truth) < 2e-5


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5)])
def test_knows_spectrum_and_slopes(shape: tuple[int, int]) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    factors = gram_preconditioner(gram_block(weight, grad), shape, 3.0, EPS)
    assert isinstance(factors, GramPreconditioner)
    of_shard: Preconditioned = factors.apply(weight[:2], grad[:2])
    whole = preconditioner(weight, 3.0).apply(grad)
    torch.testing.assert_close(of_shard.singular_values, whole.singular_values)
    torch.testing.assert_close(of_shard.slopes, whole.slopes)
    torch.testing.assert_close(
        unit_scale(of_shard, 3.0, 0.1, 0.05), unit_scale(whole, 3.0, 0.1, 0.05)
    )


@given(
    seed=st.integers(0, 10**6),
    columns=st.integers(1, 6),
    split=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
)
def test_blocks_add_up_in_any_order(seed: int, columns: int, split: list[int]) -> None:
    weight, grad = gaussian(sum(split), columns, seed=seed), gaussian(sum(split), columns)
    order = torch.randperm(sum(split), generator=torch.Generator().manual_seed(seed))
    parts = zip(weight[order].split(split), grad[order].split(split), strict=True)
    total = torch.stack([gram_block(w, g) for w, g in parts]).sum(0)
    literal = torch.cat(
        [
            torch.stack(
                [weight[:, i] @ weight[:, j] for i in range(columns) for j in range(i, columns)]
            ),
            torch.stack(
                [weight[:, i] @ grad[:, j] for i in range(columns) for j in range(columns)]
            ),
        ]
    )
    assert len(total) == gram_block_size(columns)
    torch.testing.assert_close(total, literal, rtol=1e-12, atol=1e-12)


def test_a_block_holds_the_upper_triangle_and_the_product() -> None:
    block = gram_block(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]))
    assert block.tolist() == [1.0, 2.0, 4.0, 3.0, 0.0, 6.0, 0.0]
    assert gram_block_size(4) == 26


@pytest.mark.parametrize("imbalance", [0.0, 0.1])
@pytest.mark.parametrize(("shape", "split"), SPLITS)
def test_a_basis_gives_the_rule_of_its_matrix(
    shape: tuple[int, int], split: tuple[int, ...], imbalance: float
) -> None:
    sigma = torch.linspace(1, 0.1, min(shape), dtype=torch.float64)
    weight, grad = with_spectrum(shape, sigma, seed=2), gaussian(*shape, seed=3)
    basis = gram_basis(gram_block(weight, 0 * weight), shape, EPS)
    assert basis is not None
    lefts, grads = [basis.left(rows) for rows in weight.split(split)], grad.split(split)
    cross = sum((u.T @ g for u, g in zip(lefts, grads, strict=True)), torch.zeros(()))
    acting = basis.preconditioner(cross, min(shape), 3.0, imbalance)
    rows = [acting.apply(u, g).direction for u, g in zip(lefts, grads, strict=True)]
    truth = precondition(weight, grad, 3, imbalance=imbalance)
    assert error(torch.cat(rows), truth) < 1e-12
    # U has a column for each singular value that is not 0, and W = U sigma V^T
    left = torch.cat(lefts)
    torch.testing.assert_close(left * basis.singular_values @ basis.right.T, weight)
    assert int((left.norm(dim=0) > 0).sum()) == min(shape)
