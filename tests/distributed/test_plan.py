"""The plan, against sums made by hand and the ring model."""

import pytest

from virtualdepth.distributed.plan import (
    Plan,
    Scheme,
    ShardedMatrix,
    gather_bytes,
    gram_bytes,
    plan,
)

MIB = 2**20


def rows_of(m: int, n: int, processes: int, itemsize: int = 4) -> ShardedMatrix:
    return ShardedMatrix((m, n), 1, itemsize, processes, 0)


@pytest.mark.parametrize(
    ("shape", "gather", "gram"),
    [
        ((4096, 4096), 112, 336),
        ((11008, 4096), 301, 336),
        ((50257, 768), 258, 11.8),
        ((1_000_000, 128), 855, 0.33),
    ],
)
def test_bytes_of_float32_on_eight_processes(
    shape: tuple[int, int], gather: float, gram: float
) -> None:
    assert gather_bytes(rows_of(*shape, 8)) / MIB == pytest.approx(gather, abs=0.6)
    assert gram_bytes(rows_of(*shape, 8)) / MIB == pytest.approx(gram, rel=2e-2)
    cheaper = Scheme.GATHER if gather < gram else Scheme.GRAM
    assert plan(rows_of(*shape, 8)).scheme is cheaper


@pytest.mark.parametrize("processes", [2, 4])
def test_ring_model_by_hand(processes: int) -> None:
    # each of p processes passes p - 1 pieces of B / p on, twice for a sum
    share = (processes - 1) / processes
    assert gather_bytes(rows_of(40, 8, processes)) == 2 * 40 * 8 * 4 * share
    assert gram_bytes(rows_of(40, 8, processes)) == 2 * (36 + 64) * 8 * share


def test_the_side_that_is_whole_counts() -> None:
    tall, wide = ShardedMatrix((100, 5), 1, 8, 2, 0), ShardedMatrix((5, 100), 1, 8, 2, 1)
    assert plan(tall) == plan(wide) == Plan(Scheme.GRAM, (15 + 25) * 8)
    # of a wide matrix dealt out by rows, the Gram matrix of the long side
    assert plan(ShardedMatrix((5, 100), 1, 8, 2, 0)).scheme is Scheme.GATHER


def test_wider_numbers_make_gathering_dearer() -> None:
    assert plan(rows_of(2500, 1000, 2, itemsize=2)).scheme is Scheme.GATHER
    assert plan(rows_of(2500, 1000, 2, itemsize=8)).scheme is Scheme.GRAM


def test_whole_and_packed_matrices() -> None:
    assert plan(ShardedMatrix((100, 5), 1, 8, 4, None)) == Plan(Scheme.LOCAL, 0)
    packed = ShardedMatrix((100, 5), 3, 8, 4, 0)
    assert plan(packed) == plan(packed, Scheme.GRAM) == Plan(Scheme.GATHER, 2 * 1500 * 8 * 3 // 4)


@pytest.mark.parametrize("preferred", [Scheme.GRAM, Scheme.GATHER])
def test_preference(preferred: Scheme) -> None:
    for matrix in (rows_of(100, 5, 2), rows_of(5, 5, 2)):
        expected = gram_bytes(matrix) if preferred is Scheme.GRAM else gather_bytes(matrix)
        assert plan(matrix, preferred) == Plan(preferred, expected)
