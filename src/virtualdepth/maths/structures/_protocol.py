"""What every structure has: a transform to blocks and back, and all that follows from it."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from virtualdepth.maths._chain import check_some
from virtualdepth.maths._checks import check_real, widened
from virtualdepth.maths._preconditioner import (
    Extent,
    Preconditioned,
    Preconditioner,
    SingularBasis,
    preconditioner,
    singular_basis,
)
from virtualdepth.maths._profile import Imbalance, layer_roots
from virtualdepth.maths._range import (
    Peaks,
    Units,
    frobenius_norm,
    imbalance_in,
    in_unit,
    in_units,
    out_of_unit,
    unit_of,
)
from virtualdepth.maths._step_size import extent_of
from virtualdepth.maths._svd import thin_svd

Form = Literal["svd", "polar"]


class Structure:
    """Which blocks a parameter consists of. A subclass fills in the transform to blocks and back.

    It fills in the rest only where that has a faster way than by blocks.
    """

    # what shapes it has a meaning for, and how few dimensions they may have
    expected: ClassVar[str]
    least_dimensions: ClassVar[int]
    # whether it acts on matrices, (..., m, n), which kernels are flattened to
    of_matrices: ClassVar[bool] = False
    # whether the matrices of a batch have steps of their own
    batched: ClassVar[bool] = False
    # what a convolution may be that it has no meaning for: "conv_groups", "transposed"
    refuses: ClassVar[frozenset[str]] = frozenset()

    def check(self, shape: Sequence[int], name: str = "structure") -> None:
        """Refuse a shape that it has no meaning for."""
        if len(shape) < self.least_dimensions:
            raise ValueError(f"{name}: expected {self.expected} but got shape {tuple(shape)}")

    def keeps_blocks(self, dim: int) -> bool:
        """Tell whether a cut along a dimension of the parameter leaves every block whole."""
        return False

    def to_blocks(self, array: Tensor) -> Tensor:
        """Transform a parameter to its blocks, (..., m, n)."""
        raise NotImplementedError

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Transform blocks back; ``like`` tells what they do not: a shape, or the length of it."""
        raise NotImplementedError

    def _unit_of(self, array: Tensor) -> Tensor | None:
        """Find the unit that all blocks share."""
        return unit_of(array.reshape(1, -1))

    def sizes(self, array: Tensor) -> Tensor:
        """Compute the singular values of all blocks, (number,), in the order of the blocks."""
        return out_of_unit(*self.scaled_sizes(array))

    def scaled_sizes(self, array: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the sizes in a unit that all blocks share, and the unit's exponent."""
        array = widened(array)
        if array.numel() == 0:  # it has no blocks
            return array.flatten(), None
        unit = self._unit_of(array)
        return self._sizes(in_unit(array, unit)).flatten(), unit

    def _sizes(self, array: Tensor) -> Tensor:
        """Compute the sizes of an array in the ordinary range, of any shape."""
        blocks = self.to_blocks(array)
        sizes: Tensor
        if min(blocks.shape[-2:]) == 1:
            sizes = torch.linalg.matrix_norm(blocks)
        else:
            sizes = torch.linalg.svdvals(blocks)
        return sizes

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
        """Compute P_W(G) in float64 if an input is, else float32; nothing is checked."""
        weight, grad, units, imbalance_there = units_of_all(weight, grad, depth, imbalance, peaks)
        found = self._preconditioned(weight, grad, depth, rtol, imbalance_there)
        return found._replace(units=units)

    def _preconditioned(
        self, weight: Tensor, grad: Tensor, depth: float, rtol: float | None, imbalance: Imbalance
    ) -> Preconditioned:
        """Compute P_W(G) of numbers in the ordinary range, without their units."""
        metric = preconditioner(self.to_blocks(weight), depth, rtol, imbalance)
        return self._applied(metric, grad, depth, imbalance)

    def _applied(
        self, metric: Preconditioner, grad: Tensor, depth: float, imbalance: Imbalance
    ) -> Preconditioned:
        """Apply P of each block to the blocks of G."""
        found = metric.apply(self.to_blocks(grad))
        direction = self.from_blocks(found.scaled_direction, like=grad)
        extent = partial(_extent_of_blocks, found, depth, imbalance)
        return Preconditioned.of_blocks(direction, extent)

    def decomposes(self, shape: Sequence[int]) -> bool:
        """Tell whether its blocks of a parameter are matrices, which take an SVD."""
        return False

    def singular_basis(self, weight: Tensor) -> SingularBasis:
        """Decompose the blocks of W, (..., m, n), for P to act there in later steps too."""
        weight = widened(weight)
        unit = self._unit_of(weight)
        found = singular_basis(self.to_blocks(in_unit(weight, unit)))
        # laid out as after a checkpoint: products of another layout round differently
        left, right = found.left.contiguous(), found.right.contiguous()
        sizes = out_of_unit(found.singular_values, unit)
        return SingularBasis(left, sizes, right, found.tall)

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
        """Compute P(G) of the W that had this basis."""
        sizes, grad, units, there = units_of_all(
            basis.singular_values, grad, depth, imbalance, basis.peaks(peaks)
        )
        basis = basis if units is None else basis.with_values(sizes)
        found = self._applied(basis.preconditioner(depth, rtol, there), grad, depth, there)
        return found._replace(units=units)

    def factors(
        self,
        weight: Tensor,
        depth: int,
        imbalance: float,
        form: Form,
        hidden_features: int | Sequence[int] | None,
    ) -> list[Tensor]:
        """Factor a checked weight into N layers of its kind, [W_1, ..., W_N], in its dtype."""
        # The form is always the polar one: the signs of singular vectors are arbitrary in each
        # block, so those of an SVD would not make real layers.
        del form
        if hidden_features is not None:
            raise ValueError(
                "hidden_features: expected None with this structure, whose layers have the widths "
                f"of its blocks, but got {hidden_features!r}; use structure='matrix'"
            )
        if depth == 1:
            return [weight.clone()]
        wide = widened(weight)
        unit = self._unit_of(wide)
        there: Imbalance = imbalance if unit is None else imbalance_in(unit, depth, imbalance)
        layers = self._factors(in_unit(wide, unit), depth, there)
        return [out_of_unit(each, unit, 1 / depth).to(weight.dtype).clone() for each in layers]

    def _factors(self, weight: Tensor, depth: int, imbalance: Imbalance) -> list[Tensor]:
        """Factor a weight in the ordinary range."""
        blocks = self.to_blocks(weight)
        u, sizes, vh = thin_svd(blocks)
        tall = blocks.shape[-2] > blocks.shape[-1]
        layers = polar_layers(u, layer_roots(sizes, depth, imbalance), vh, depth, tall=tall)
        return [self.from_blocks(layer, like=weight) for layer in layers]

    def check_layers(self, factors: Sequence[Tensor]) -> None:
        """Refuse what are not layers of a network of this structure."""
        check_some(factors)
        for number, factor in enumerate(factors, start=1):
            check_real(factor, f"factors, W_{number}")
        # else gates of one entry, or filters of another length, would silently be broadcast
        pairs = zip(factors, self._layer_shapes(factors), strict=True)
        for number, (factor, shape) in enumerate(pairs, start=1):
            if tuple(factor.shape) != shape:
                raise ValueError(
                    f"factors, W_{number}: expected the shape {shape} beside the other layers but "
                    f"got {tuple(factor.shape)}; balanced_factors makes layers that fit"
                )

    def _layer_shapes(self, factors: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """List the shapes that the layers must have, given the one with the shape of W."""
        shape = tuple(factors[0].shape)
        self.check(shape, "factors, W_1")
        return [shape] * len(factors)

    def layer_blocks(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Transform the layers of a network of this structure to their blocks."""
        return [self.to_blocks(factor) for factor in factors]

    def defects(self, factors: Sequence[Tensor]) -> Tensor:
        """Compute ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F of adjacent layers as matrices, (N - 1,)."""
        wide = [widened(factor) for factor in factors]
        unit = unit_of(*(factor.reshape(1, -1) for factor in wide))
        layers = self.layer_blocks([in_unit(factor, unit) for factor in wide])
        norms = [
            self.norm(after.mH @ after - before @ before.mH, like=wide[0])
            for before, after in pairwise(layers)
        ]
        return out_of_unit(torch.stack(norms), unit, 2.0) if norms else wide[0].new_empty(0)

    def norm(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Compute the Frobenius norm of the matrix with these blocks; ``like`` is a layer."""
        return frobenius_norm(blocks.reshape(1, -1))

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Multiply the layers of a network of this structure, W_1 first."""
        product = self.to_blocks(factors[0])
        for factor in factors[1:]:
            product = self.to_blocks(factor) @ product
        return self.from_blocks(product, like=factors[0])


def _extent_of_blocks(found: Preconditioned, depth: float, imbalance: Imbalance) -> Extent:
    step, sizes, slopes, *_ = found
    largest, speeds = extent_of(
        Preconditioned(step, sizes.flatten(), slopes.flatten()), depth, imbalance
    )
    return Extent(largest, speeds.amax())


def units_of_all(
    weight: Tensor, grad: Tensor, depth: float, imbalance: float, peaks: Peaks = None
) -> tuple[Tensor, Tensor, Units | None, Imbalance]:
    """Bring W and G near 1, by one unit for all blocks; return the imbalance there last."""
    shapes = weight.shape, grad.shape
    flat = weight.reshape(1, -1), grad.reshape(1, -1)
    weight, grad, units = in_units(*flat, depth, imbalance, peaks)
    there = imbalance if units is None else units.imbalance
    return weight.reshape(shapes[0]), grad.reshape(shapes[1]), units, there


def polar_layers(
    u: Tensor, roots: tuple[Tensor, Tensor], vh: Tensor, depth: int, *, tall: bool
) -> list[Tensor]:
    """Build the polar form: all layers but the one on the long side are functions of |W|."""
    small, large = (root.unsqueeze(-2) for root in roots)
    outer, side = (u * small) @ vh, vh.mH if tall else u
    inner = [(side * large) @ side.mH] * (depth - 1)
    return [*inner, outer] if tall else [outer, *inner]
