"""``structure="rows"``: every row is a block, 1 x n; the bias is to few rows."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance, layer_roots
from virtualdepth.maths.structures._protocol import Structure
from virtualdepth.maths.structures._vectors import lengths, precondition_vectors, unit_vectors


class Rows(Structure):
    """(..., m, n): the layers are one vector a row, W_1, and then scalar gates, (..., m)."""

    expected: ClassVar[str] = "a matrix (..., m, n), whose rows are the blocks of 'rows',"
    least_dimensions: ClassVar[int] = 2
    of_matrices: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"transposed"})

    def keeps_blocks(self, dim: int) -> bool:
        """Cut between rows only."""
        return dim == 0

    def to_blocks(self, array: Tensor) -> Tensor:
        """Transform (..., m, n) to (..., m, 1, n)."""
        return array.unsqueeze(-2)

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Transform (..., m, 1, n) to (..., m, n)."""
        return blocks.squeeze(-2)

    def _sizes(self, array: Tensor) -> Tensor:
        return lengths(array, -1)

    def _preconditioned(
        self, weight: Tensor, grad: Tensor, depth: float, rtol: float | None, imbalance: Imbalance
    ) -> Preconditioned:
        return precondition_vectors(weight, grad, -1, depth, imbalance)

    def _factors(self, weight: Tensor, depth: int, imbalance: Imbalance) -> list[Tensor]:
        norms, directions = unit_vectors(weight, -1)
        small, large = layer_roots(norms, depth, imbalance)
        return [directions * small, *[large.squeeze(-1)] * (depth - 1)]

    def _layer_shapes(self, factors: Sequence[Tensor]) -> list[tuple[int, ...]]:
        shape = tuple(factors[0].shape)
        self.check(shape, "factors, W_1")
        return [shape, *[shape[:-1]] * (len(factors) - 1)]

    def layer_blocks(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Transform W_1 to its rows, and gates to 1 x 1."""
        return [self.to_blocks(factors[0]), *(gates[..., None, None] for gates in factors[1:])]

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Multiply the rows of W_1 by the gates."""
        product = factors[0]
        for gates in factors[1:]:
            product = product * gates.unsqueeze(-1)
        return product
