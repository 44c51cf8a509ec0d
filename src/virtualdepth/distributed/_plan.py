"""What a sharded matrix costs to precondition, and how it is done: from global metadata alone.

Every process makes the same plan without asking another. Bytes are what one process sends in a
step, by the ring model: of an all-gather of B bytes over p processes it sends (p - 1) / p B, of an
all-reduce twice that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from virtualdepth.maths import gram_block_size

_GRAM_ITEM = 8  # bytes: float64, whatever the weights are


class Scheme(Enum):
    """How P_W(G) of a parameter that several processes hold is computed.

    Attributes:
        LOCAL: every process has the whole matrix and works alone.
        GRAM: the sum of small matrices over all processes; see :mod:`virtualdepth.maths._gram`.
        GATHER: every process fetches W and G, decomposes W, and keeps its part of P_W(G).
        OWNER: one process fetches W and G, decomposes W, and sends the parts of P_W(G) back; many
            matrices have many owners.
    """

    LOCAL = "local"
    GRAM = "gram"
    GATHER = "gather"
    OWNER = "owner"


@dataclass(frozen=True)
class ShardedMatrix:
    """What is the same on all processes about one parameter.

    Attributes:
        shape: (m, n) of one matrix of its view.
        count: number of matrices in it.
        itemsize: bytes of a number of the parameter.
        parts: into how many it is cut along each dimension of the mesh that cuts it; empty where
            every process has all of it.
        side: the side of the matrix that is cut, 0 for its rows, 1 for its columns; None for both,
            or where nothing is.
    """

    shape: tuple[int, int]
    count: int
    itemsize: int
    parts: tuple[int, ...]
    side: int | None

    @property
    def size(self) -> int:
        """Numbers in the parameter."""
        return self.count * math.prod(self.shape)

    @property
    def flops(self) -> int:
        """Work of a decomposition, up to a factor: m n min(m, n) for each matrix."""
        return self.size * min(self.shape)


@dataclass(frozen=True)
class Plan:
    """What a step does with one parameter.

    Attributes:
        scheme: how.
        step_bytes: what a process sends in a step for it.
    """

    scheme: Scheme
    step_bytes: int


def gather_bytes(matrix: ShardedMatrix) -> int:
    """Count what each process sends when all of W and G is fetched everywhere.

    Args:
        matrix: what.

    Returns:
        2 (p - 1) / p m n numbers, in bytes.

    >>> gather_bytes(ShardedMatrix((4096, 4096), 1, 4, (8,), 0)) / 2**20
    112.0
    """
    processes = math.prod(matrix.parts)
    return 2 * matrix.size * matrix.itemsize * (processes - 1) // processes


def owner_bytes(matrix: ShardedMatrix) -> int:
    """Count what each process sends, on average, when every matrix is fetched by one owner.

    A process sends its parts of W and G to the owners, and the parts of what it owns back; the
    latter in float32 at least.

    Args:
        matrix: what; cut along one dimension of the mesh.

    Returns:
        3 (p - 1) / p^2 m n numbers, in bytes.

    >>> owner_bytes(ShardedMatrix((4096, 4096), 1, 4, (8,), 0)) / 2**20
    21.0
    """
    processes = math.prod(matrix.parts)
    items = 2 * matrix.itemsize + max(matrix.itemsize, 4)
    return matrix.size * items * (processes - 1) // processes**2


def gram_bytes(matrix: ShardedMatrix) -> int:
    """Count what each process sends to add up the Gram matrices of the side that is whole.

    Args:
        matrix: what; cut on one side.

    Returns:
        2 (p - 1) / p (1.5 n^2 + n / 2) numbers of float64, in bytes, for each dimension of the mesh
        that cuts it into p parts, n being the side that is not cut.

    >>> round(gram_bytes(ShardedMatrix((50257, 768), 1, 4, (8,), 0)) / 2**20, 1)
    11.8
    """
    whole_side = matrix.shape[0 if matrix.side == 1 else 1]
    block = gram_block_size(whole_side) * _GRAM_ITEM
    return sum(2 * block * (parts - 1) // parts for parts in matrix.parts)


def scheme_bytes(matrix: ShardedMatrix) -> Mapping[Scheme, int]:
    """List the schemes that can serve a matrix.

    Several matrices in one parameter have no Gram scheme: where they are dealt out by rows, most
    processes hold rows of few of them. Nor has a matrix cut on both sides, of which no process has
    whole rows or columns. Owners deal with a matrix cut along one dimension of the mesh.

    Args:
        matrix: what.

    Returns:
        scheme -> what a process sends in a step.
    """
    if not matrix.parts:
        return {Scheme.LOCAL: 0}
    found = {Scheme.GATHER: gather_bytes(matrix)}
    if len(matrix.parts) == 1:
        found[Scheme.OWNER] = owner_bytes(matrix)
    if matrix.count == 1 and matrix.side is not None:
        found[Scheme.GRAM] = gram_bytes(matrix)
    return found


def plan(matrices: Sequence[ShardedMatrix], wanted: Sequence[Scheme | None]) -> list[Plan]:
    """Choose for each of several matrices the scheme that sends least.

    One matrix alone is not given to an owner: it would receive as much as every process does that
    gathers, and the others would wait for it.

    Args:
        matrices: cut and dealt out over the same processes.
        wanted: a scheme for each, one of :func:`scheme_bytes`; None leaves the choice.

    Returns:
        A plan for each.

    >>> tall = ShardedMatrix((50257, 768), 1, 4, (8,), 0)
    >>> square = ShardedMatrix((4096, 4096), 1, 4, (8,), 0)
    >>> [each.scheme.value for each in plan([tall, square], [None, None])]
    ['gram', 'gather']
    >>> {each.scheme.value for each in plan([square] * 2, [None] * 2)}
    {'owner'}
    """
    costs = [scheme_bytes(matrix) for matrix in matrices]
    favourites = [scheme or _cheapest(cost) for cost, scheme in zip(costs, wanted, strict=True)]
    alone = favourites.count(Scheme.OWNER) == 1
    plans = []
    for cost, scheme in zip(costs, wanted, strict=True):
        chosen = scheme or _cheapest(cost, without=Scheme.OWNER if alone else None)
        plans.append(Plan(chosen, cost[chosen]))
    return plans


def owners(work: Sequence[int], processes: int) -> list[int]:
    """Deal out matrices so that every process has about the same work: the largest first.

    Args:
        work: of each matrix.
        processes: how many.

    Returns:
        For each matrix, the process that owns it.

    >>> owners([1, 4, 2, 2], 2)
    [0, 0, 1, 1]
    """
    loads = [0] * processes
    found = [0] * len(work)
    for index in sorted(range(len(work)), key=lambda index: -work[index]):
        found[index] = loads.index(min(loads))
        loads[found[index]] += work[index]
    return found


def _cheapest(cost: Mapping[Scheme, int], without: Scheme | None = None) -> Scheme:
    return min((scheme for scheme in cost if scheme is not without), key=lambda each: cost[each])
