"""What a sharded matrix costs to precondition, and how it is done: from global metadata alone.

Every process makes the same plan without asking another.
"""

from dataclasses import dataclass
from enum import Enum

from virtualdepth.maths import gram_block_size

_GRAM_ITEM = 8  # bytes: float64, whatever the weights are


class Scheme(Enum):
    """How P_W(G) of a parameter that several processes hold is computed.

    Attributes:
        LOCAL: every process has the whole matrix and works alone.
        GRAM: the sum of small matrices over all processes; see :mod:`virtualdepth.maths.gram`.
        GATHER: every process fetches W and G, decomposes W, and keeps its part of P_W(G).
    """

    LOCAL = "svd"
    GRAM = "gram"
    GATHER = "gather"


@dataclass(frozen=True)
class ShardedMatrix:
    """What is the same on all processes about one parameter.

    Attributes:
        shape: (m, n) of one matrix of its view.
        count: number of matrices in it.
        itemsize: bytes of a number of the parameter.
        processes: how many hold a part of it, or a copy.
        sharded_side: the side of the matrix that is dealt out, 0 for its rows, 1 for its columns;
            None if every process has all of it.
    """

    shape: tuple[int, int]
    count: int
    itemsize: int
    processes: int
    sharded_side: int | None


@dataclass(frozen=True)
class Plan:
    """What a step does with one parameter.

    Attributes:
        scheme: how.
        step_bytes: what a process sends in a step for it, by the ring model: an all-gather of B
            bytes sends (p - 1) / p B, an all-reduce twice that.
    """

    scheme: Scheme
    step_bytes: int


def gather_bytes(matrix: ShardedMatrix) -> int:
    """Count what each process sends when all of W and G is fetched everywhere.

    Args:
        matrix: what.

    Returns:
        2 (p - 1) / p m n numbers, in bytes.

    >>> gather_bytes(ShardedMatrix((4096, 4096), 1, 4, 8, 0)) / 2**20
    112.0
    """
    rows, columns = matrix.shape
    whole = 2 * matrix.count * rows * columns * matrix.itemsize
    return whole * (matrix.processes - 1) // matrix.processes


def gram_bytes(matrix: ShardedMatrix) -> int:
    """Count what each process sends to add up the Gram matrices of the side that is whole.

    Args:
        matrix: what; sharded.

    Returns:
        2 (p - 1) / p (1.5 n^2 + n / 2) numbers of float64, in bytes, n being the side not sharded.

    >>> round(gram_bytes(ShardedMatrix((50257, 768), 1, 4, 8, 0)) / 2**20, 1)
    11.8
    """
    side = matrix.shape[0 if matrix.sharded_side == 1 else 1]
    block = matrix.count * gram_block_size(side) * _GRAM_ITEM
    return 2 * block * (matrix.processes - 1) // matrix.processes


def plan(matrix: ShardedMatrix, preferred: Scheme | None = None) -> Plan:
    """Choose the scheme that sends less.

    Args:
        matrix: what.
        preferred: GRAM or GATHER where the choice is not to be made by bytes.

    Returns:
        The plan: LOCAL where nothing is sharded. Several matrices in one parameter are gathered:
        where they are dealt out by rows, most processes hold rows of few of them.

    >>> plan(ShardedMatrix((50257, 768), 1, 4, 8, 0))
    Plan(scheme=<Scheme.GRAM: 'gram'>, step_bytes=12391680)
    >>> plan(ShardedMatrix((4096, 4096), 1, 4, 8, 0)).scheme
    <Scheme.GATHER: 'gather'>
    """
    if matrix.sharded_side is None:
        return Plan(Scheme.LOCAL, 0)
    costs = {Scheme.GATHER: gather_bytes(matrix)}
    if matrix.count == 1:
        costs[Scheme.GRAM] = gram_bytes(matrix)
    scheme = preferred if preferred in costs else min(costs, key=lambda each: costs[each])
    return Plan(scheme, costs[scheme])
