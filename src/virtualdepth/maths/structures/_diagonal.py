"""``structure="diagonal"``: every entry is a block, 1 x 1; the bias is to few entries."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance, layer_roots
from virtualdepth.maths.structures._protocol import Structure
from virtualdepth.maths.structures._vectors import precondition_numbers


class Diagonal(Structure):
    """An array of any shape: the layers are arrays of that shape, multiplied entry by entry."""

    expected: ClassVar[str] = "an array"
    least_dimensions: ClassVar[int] = 0

    def keeps_blocks(self, dim: int) -> bool:
        """Cut anywhere."""
        return True

    def to_blocks(self, array: Tensor) -> Tensor:
        """Transform to (number of entries, 1, 1)."""
        return array.reshape(-1, 1, 1)

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Transform to the shape of ``like``."""
        return blocks.reshape(like.shape)

    def _sizes(self, array: Tensor) -> Tensor:
        return array.abs()

    def _preconditioned(
        self, weight: Tensor, grad: Tensor, depth: float, rtol: float | None, imbalance: Imbalance
    ) -> Preconditioned:
        return precondition_numbers(weight, grad, depth, imbalance)

    def _factors(self, weight: Tensor, depth: int, imbalance: Imbalance) -> list[Tensor]:
        small, large = layer_roots(weight.abs(), depth, imbalance)
        return [torch.sgn(weight) * small, *[large] * (depth - 1)]

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Multiply entry by entry."""
        product = factors[0]
        for factor in factors[1:]:
            product = product * factor
        return product
