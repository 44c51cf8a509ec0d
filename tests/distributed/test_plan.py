"""The plan, against sums made by hand and the ring model."""

import math

import pytest

from virtualdepth.distributed import Plan, Scheme, ShardedMatrix, owners, plan, scheme_bytes

MIB = 2**20


def rows_of(m: int, n: int, processes: int, itemsize: int = 4) -> ShardedMatrix:
    return ShardedMatrix((m, n), 1, itemsize, (processes,), 0)


def plan_of(matrix: ShardedMatrix, wanted: Scheme | None = None) -> Plan:
    return plan([matrix], [wanted])[0]


@pytest.mark.parametrize(
    ("shape", "gather", "owner", "gram"),
    [
        ((4096, 4096), 112, 21, 336),
        ((11008, 4096), 301, 56, 336),
        ((50257, 768), 258, 48, 11.8),
        ((1_000_000, 128), 855, 160, 0.33),
    ],
)
def test_bytes_of_float32_on_eight_processes(
    shape: tuple[int, int], gather: float, owner: float, gram: float
) -> None:
    matrix = rows_of(*shape, 8)
    costs = {scheme: sent / MIB for scheme, sent in scheme_bytes(matrix).items()}
    assert costs[Scheme.GATHER] == pytest.approx(gather, abs=0.6)
    assert costs[Scheme.OWNER] == pytest.approx(owner, abs=0.6)
    assert costs[Scheme.GRAM] == pytest.approx(gram, rel=2e-2)
    assert plan_of(matrix).scheme is (Scheme.GATHER if gather < gram else Scheme.GRAM)
    # of several each has an owner of its own
    several = Scheme.OWNER if owner < gram else Scheme.GRAM
    assert {each.scheme for each in plan([matrix] * 2, [None] * 2)} == {several}


@pytest.mark.parametrize("processes", [2, 4])
def test_ring_model_by_hand(processes: int) -> None:
    # each of p processes passes p - 1 pieces of B / p on, twice for a sum
    share = (processes - 1) / processes
    costs = scheme_bytes(rows_of(40, 8, processes))
    assert costs[Scheme.GATHER] == 2 * 40 * 8 * 4 * share
    assert costs[Scheme.GRAM] == 2 * (36 + 64) * 8 * share
    # of W and G a part goes out, of P_W(G) the other parts, of one matrix a process
    assert costs[Scheme.OWNER] == (2 + 1) * 40 * 8 * 4 / processes * share


def test_half_precision_comes_back_in_float32() -> None:
    cost = scheme_bytes(rows_of(40, 8, 2, itemsize=2))[Scheme.OWNER]
    assert cost == (2 + 2 + 4) * 40 * 8 / 4


def test_the_side_that_is_whole_counts() -> None:
    tall = ShardedMatrix((100, 5), 1, 8, (2,), 0)
    wide = ShardedMatrix((5, 100), 1, 8, (2,), 1)
    assert plan_of(tall) == plan_of(wide) == Plan(Scheme.GRAM, (15 + 25) * 8)
    # of a wide matrix dealt out by rows, the Gram matrix of the long side
    assert plan_of(ShardedMatrix((5, 100), 1, 8, (2,), 0)).scheme is Scheme.GATHER


def test_two_dimensions_of_a_mesh() -> None:
    twice = ShardedMatrix((100, 5), 1, 8, (2, 4), 0)
    assert scheme_bytes(twice) == {
        Scheme.GATHER: 2 * 500 * 8 * 7 // 8,
        Scheme.GRAM: 40 * 8 * (2 // 2) + 2 * 40 * 8 * 3 // 4,
    }
    blocks = ShardedMatrix((100, 5), 1, 8, (2, 4), None)
    assert set(scheme_bytes(blocks)) == {Scheme.GATHER}


def test_wider_numbers_make_gathering_dearer() -> None:
    assert plan_of(rows_of(2500, 1000, 2, itemsize=2)).scheme is Scheme.GATHER
    assert plan_of(rows_of(2500, 1000, 2, itemsize=8)).scheme is Scheme.GRAM


def test_whole_and_packed_matrices() -> None:
    assert plan_of(ShardedMatrix((100, 5), 1, 8, (), None)) == Plan(Scheme.LOCAL, 0)
    packed = ShardedMatrix((100, 5), 3, 8, (4,), 0)
    assert plan_of(packed) == Plan(Scheme.GATHER, 2 * 1500 * 8 * 3 // 4)
    assert set(scheme_bytes(packed)) == {Scheme.GATHER, Scheme.OWNER}


@pytest.mark.parametrize("wanted", [Scheme.GRAM, Scheme.GATHER, Scheme.OWNER])
def test_what_is_asked_for(wanted: Scheme) -> None:
    for matrix in (rows_of(100, 5, 2), rows_of(5, 5, 2)):
        assert plan_of(matrix, wanted) == Plan(wanted, scheme_bytes(matrix)[wanted])


@pytest.mark.parametrize("processes", [1, 3, 8])
def test_owners_share_the_work(processes: int) -> None:
    work = [7, 7, 7, 1, 1, 5, 12, 3, 3]
    dealt = owners(work, processes)
    assert set(dealt) <= set(range(processes))
    loads = [sum(w for w, o in zip(work, dealt, strict=True) if o == p) for p in range(processes)]
    # the largest first, each to the least loaded: within 4/3 of the best there is (Graham, 1969)
    assert max(loads) <= 4 / 3 * max(max(work), math.ceil(sum(work) / processes))
    assert owners([3] * 8, 4) == [0, 1, 2, 3] * 2
