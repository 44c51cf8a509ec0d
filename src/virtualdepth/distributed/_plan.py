"""How each sharded matrix is preconditioned, and what that costs, from global metadata alone.

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
    """How P_W(G) of a parameter that lies on several processes is computed.

    Attributes:
        LOCAL: every process has the whole matrix, or whole blocks of a structure, and works alone.
        GRAM: all processes sum small Gram matrices; no process needs the rows of another.
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
    """What all processes know about one parameter.

    Attributes:
        shape: (m, n) of one matrix of its view.
        count: number of matrices in it.
        itemsize: bytes of a number of the parameter.
        parts: into how many parts each dimension of the mesh cuts it, without those that do not;
            empty where every process has all of it, or whole blocks.
        side: the side of the matrix that is cut, 0 for its rows, 1 for its columns; None for both
            or for none, and where sums over it do not tell the step.
    """

    shape: tuple[int, int]
    count: int
    itemsize: int
    parts: tuple[int, ...]
    side: int | None

    @property
    def size(self) -> int:
        """How many numbers the parameter has."""
        return self.count * math.prod(self.shape)

    @property
    def flops(self) -> int:
        """Work of a decomposition, up to a factor: m n min(m, n) for each matrix."""
        return self.size * min(self.shape)


@dataclass(frozen=True)
class Plan:
    """What a step does with one parameter.

    Attributes:
        scheme: how P_W(G) is computed.
        step_bytes: how many bytes a process sends in a step for it.
    """

    scheme: Scheme
    step_bytes: int


def gather_bytes(matrix: ShardedMatrix) -> int:
    """Count 2 (p - 1) / p m n numbers, in bytes: all of W and G is fetched by every process."""
    processes = math.prod(matrix.parts)
    return 2 * matrix.size * matrix.itemsize * (processes - 1) // processes


def owner_bytes(matrix: ShardedMatrix) -> int:
    """Count 3 (p - 1) / p^2 m n numbers, in bytes: every matrix is fetched by one owner."""
    processes = math.prod(matrix.parts)
    # a process sends its parts of W and G, and the parts of what it owns in float32 at least
    items = 2 * matrix.itemsize + max(matrix.itemsize, 4)
    return matrix.size * items * (processes - 1) // processes**2


def gram_bytes(matrix: ShardedMatrix) -> int:
    """Count 2 (p - 1) / p (1.5 n^2 + n / 2) float64 numbers, in bytes; n is the whole side."""
    whole_side = matrix.shape[0 if matrix.side == 1 else 1]
    block = gram_block_size(whole_side) * _GRAM_ITEM
    return sum(2 * block * (parts - 1) // parts for parts in matrix.parts)


def scheme_bytes(matrix: ShardedMatrix) -> Mapping[Scheme, int]:
    """List the schemes that can serve a matrix, and what a process sends in a step by each.

    Several matrices in one parameter have no Gram scheme: where they are cut by rows, most
    processes hold rows of only a few of them. Nor has a matrix that is cut on both sides, since no
    process has whole rows or columns. The owner scheme serves a matrix that one dimension of the
    mesh cuts.

    Args:
        matrix: what all processes know about the parameter.

    Returns:
        scheme -> bytes.

    >>> tall = ShardedMatrix((50257, 768), 1, 4, (8,), 0)
    >>> {scheme.value: count // 2**20 for scheme, count in scheme_bytes(tall).items()}
    {'gather': 257, 'owner': 48, 'gram': 11}
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

    A single matrix is not given to an owner: the owner would receive as much as every process does
    that gathers, and the others would wait for it.

    Args:
        matrices: parameters cut over the same processes.
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
    """Assign matrices to processes so that the work is even: the largest first."""
    loads = [0] * processes
    found = [0] * len(work)
    for index in sorted(range(len(work)), key=lambda index: -work[index]):
        found[index] = loads.index(min(loads))
        loads[found[index]] += work[index]
    return found


def _cheapest(cost: Mapping[Scheme, int], without: Scheme | None = None) -> Scheme:
    """Return the scheme that sends least."""
    return min((scheme for scheme in cost if scheme is not without), key=lambda each: cost[each])
