"""``structure="columns"``: every column is a block, m x 1; the bias is to few columns."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance, layer_roots
from virtualdepth.maths.structures._protocol import Structure
from virtualdepth.maths.structures._vectors import lengths, precondition_vectors, unit_vectors


class Columns(Structure):
    """(..., m, n): the layers are scalar gates, (..., n), and then one vector a column, W_N."""

    expected: ClassVar[str] = "a matrix (..., m, n), whose columns are the blocks of 'columns',"
    least_dimensions: ClassVar[int] = 2
    of_matrices: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"transposed"})

    def to_blocks(self, array: Tensor) -> Tensor:
        """Transform (..., m, n) to (..., n, m, 1)."""
        return array.mT.unsqueeze(-1)

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Transform (..., n, m, 1) to (..., m, n)."""
        return blocks.squeeze(-1).mT

    def _sizes(self, array: Tensor) -> Tensor:
        return lengths(array, -2)

    def _preconditioned(
        self, weight: Tensor, grad: Tensor, depth: float, rtol: float | None, imbalance: Imbalance
    ) -> Preconditioned:
        return precondition_vectors(weight, grad, -2, depth, imbalance)

    def _factors(self, weight: Tensor, depth: int, imbalance: Imbalance) -> list[Tensor]:
        norms, directions = unit_vectors(weight, -2)
        small, large = layer_roots(norms, depth, imbalance)
        return [*[large.squeeze(-2)] * (depth - 1), directions * small]

    def _layer_shapes(self, factors: Sequence[Tensor]) -> list[tuple[int, ...]]:
        shape = tuple(factors[-1].shape)
        self.check(shape, f"factors, W_{len(factors)}")
        return [*[(*shape[:-2], shape[-1])] * (len(factors) - 1), shape]

    def layer_blocks(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Transform gates to 1 x 1, and W_N to its columns."""
        return [*(gates[..., None, None] for gates in factors[:-1]), self.to_blocks(factors[-1])]

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Multiply the columns of W_N by the gates."""
        product = factors[-1]
        for gates in factors[:-1]:
            product = product * gates.unsqueeze(-2)
        return product
