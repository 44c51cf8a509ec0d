"""``structure="matrix"``: one block, the matrix itself; the bias is to low rank."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from virtualdepth.maths._chain import check_chain, layer_sizes
from virtualdepth.maths._checks import widened
from virtualdepth.maths._defects import defects
from virtualdepth.maths._preconditioner import (
    Preconditioned,
    SingularBasis,
    preconditioner,
)
from virtualdepth.maths._profile import Imbalance, layer_roots
from virtualdepth.maths._range import Peaks, imbalance_in, in_unit, in_units, out_of_unit, unit_of
from virtualdepth.maths._singular_values import scaled_singular_values
from virtualdepth.maths._svd import thin_svd
from virtualdepth.maths.structures._protocol import Form, Structure, polar_layers


class Matrix(Structure):
    """(..., m, n): matrices, each of which has units, singular values and a step of its own."""

    expected: ClassVar[str] = "a matrix (..., m, n)"
    least_dimensions: ClassVar[int] = 2
    of_matrices: ClassVar[bool] = True
    batched: ClassVar[bool] = True

    def to_blocks(self, array: Tensor) -> Tensor:
        """Return the matrices themselves."""
        return array

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Return the matrices themselves."""
        return blocks

    def _unit_of(self, array: Tensor) -> Tensor | None:
        return unit_of(array)

    def scaled_sizes(self, array: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the singular values, (..., min(m, n)), falling, in units of each matrix."""
        return scaled_singular_values(array)

    def preconditioned(
        self,
        weight: Tensor,
        grad: Tensor,
        depth: float,
        rtol: float | None = None,
        imbalance: float = 0.0,
        *,
        peaks: Peaks = None,
    ) -> Preconditioned:
        """Compute P_W(G) of each matrix, in units of its own."""
        # the optimizers check before, and multiply by the learning rate before they round
        weight, grad, units = in_units(weight, grad, depth, imbalance, peaks)
        there = imbalance if units is None else units.imbalance
        found = preconditioner(weight, depth, rtol, there).apply(grad)
        return found if units is None else found._replace(units=units)

    def decomposes(self, shape: Sequence[int]) -> bool:
        """Tell whether the matrices have more than a row or a column."""
        return min(shape[-2:]) > 1

    def preconditioned_in(
        self,
        basis: SingularBasis,
        grad: Tensor,
        depth: float,
        rtol: float | None = None,
        imbalance: float = 0.0,
        *,
        peaks: Peaks = None,
    ) -> Preconditioned:
        """Compute P(G) of each matrix, in units of its own."""
        row, peaks = basis.singular_values.unsqueeze(-2), basis.peaks(peaks)
        row, grad, units = in_units(row, grad, depth, imbalance, peaks)
        if units is None:
            return basis.preconditioner(depth, rtol, imbalance).apply(grad)
        there = basis.with_values(row.squeeze(-2))
        found = there.preconditioner(depth, rtol, units.imbalance).apply(grad)
        return found._replace(units=units)

    def factors(
        self,
        weight: Tensor,
        depth: int,
        imbalance: float,
        form: Form,
        hidden_features: int | Sequence[int] | None,
    ) -> list[Tensor]:
        """Factor W into matrices, padded by zeros to the widths of the hidden layers."""
        rows, columns = weight.shape[-2:]
        sizes = layer_sizes(columns, rows, depth, hidden_features)
        if depth == 1:
            return [weight.clone()]
        tall = rows > columns
        wide = widened(weight)
        unit = unit_of(wide)
        u, sigma, vh = thin_svd(in_unit(wide, unit))
        there: Imbalance = imbalance
        if unit is not None:
            there = imbalance_in(unit.unsqueeze(-1), depth, imbalance)
        small, large = layer_roots(sigma, depth, there)
        roots = out_of_unit(small, unit, 1 / depth), out_of_unit(large, unit, 1 / depth)
        build = polar_layers if form == "polar" else _svd_layers
        return [
            pad(core, (0, columns - core.shape[-1], 0, rows - core.shape[-2])).to(weight.dtype)
            for core, (columns, rows) in zip(
                build(u, roots, vh, depth, tall=tall), pairwise(sizes), strict=True
            )
        ]

    def check_layers(self, factors: Sequence[Tensor]) -> None:
        """Refuse factors that are not matrices, or that do not fit."""
        check_chain(factors)

    def defects(self, factors: Sequence[Tensor]) -> Tensor:
        """Compute them of each matrix, (..., N - 1)."""
        return defects(factors)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Multiply matrices, each of a shape of its own."""
        product = factors[0]
        for factor in factors[1:]:
            product = factor @ product
        return product


def _svd_layers(
    u: Tensor, roots: tuple[Tensor, Tensor], vh: Tensor, depth: int, *, tall: bool
) -> list[Tensor]:
    """Build the layers that are diagonal, but for the singular vectors in the first and last."""
    first, last = reversed(roots) if tall else roots
    inner = torch.diag_embed(roots[1])
    return [first.unsqueeze(-1) * vh, *[inner] * (depth - 2), u * last.unsqueeze(-2)]
