"""P_W, the preconditioner of the end-to-end rule, in the singular basis of W: by one thin SVD.

Source: arXiv 1802.06509, Theorem 1 (the rule), Claim 1 (its spectrum), Claim 2 (single outputs).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._kernel import kernel_parts
from virtualdepth.maths._profile import Imbalance
from virtualdepth.maths._range import Peaks, Units, out_of_unit
from virtualdepth.maths._svd import SVD, thin_svd


class Extent(NamedTuple):
    """How large W is, and how fast it moves along P_W(G), in the units of both.

    Attributes:
        largest: sigma_1, (...), of all blocks of another structure than "matrix".
        speed: of what moves fastest, relative to its size, (...).
    """

    largest: Tensor
    speed: Tensor


class Preconditioned(NamedTuple):
    """P_W(G), and what its computation found out about W and G.

    The fields are those of W and G in ``units``, which no dtype is too small for; the properties
    are those of W and G themselves.

    Attributes:
        scaled_direction: P_W(G), (..., m, n).
        scaled_singular_values: sigma of W, (..., min(m, n)), falling; those within rtol are 0.
        scaled_slopes: the loss's derivatives along them, <G, u_r v_r^T>, (..., min(m, n)).
        units: of W and G; None for 1.
        extent: of a structure other than "matrix"; else None.

    Of a structure other than "matrix" the direction has the parameter's shape, and singular values
    and slopes are empty: its blocks may be as many as its entries, and a step asks for no more than
    their extent, or not even for that.
    """

    scaled_direction: Tensor
    scaled_singular_values: Tensor
    scaled_slopes: Tensor
    units: Units | None = None
    extent: Callable[[], Extent] | None = None

    @classmethod
    def of_blocks(cls, direction: Tensor, extent: Callable[[], Extent]) -> "Preconditioned":
        """Make that of a structure other than "matrix"."""
        unknown = direction.new_empty(0)
        return cls(direction, unknown, unknown, extent=extent)

    @property
    def direction(self) -> Tensor:
        """P_W(G), (..., m, n); inf where the dtype cannot hold it."""
        if self.units is None:
            return self.scaled_direction
        return self.units.direction(self.scaled_direction)

    @property
    def singular_values(self) -> Tensor:
        """Sigma of W, (..., min(m, n))."""
        return out_of_unit(self.scaled_singular_values, self.units and self.units.weight)

    @property
    def slopes(self) -> Tensor:
        """<G, u_r v_r^T>, (..., min(m, n))."""
        return out_of_unit(self.scaled_slopes, self.units and self.units.grad)

    def unbound(self) -> list["Preconditioned"]:
        """Split a batch into its matrices."""
        count = len(self.scaled_direction)
        units: Sequence[Units | None] = [None] * count
        if self.units is not None:
            weight, grad, gain, shares = self.units
            each_share = shares if isinstance(shares, Tensor) else [shares] * count
            units = [Units(a, b, gain, x) for a, b, x in zip(weight, grad, each_share, strict=True)]
        return [Preconditioned(*each) for each in zip(*self[:3], units, strict=True)]


class Preconditioner(NamedTuple):
    """P_W as a linear map of (..., m, n) matrices, in the singular basis of W; k = min(m, n).

    Attributes:
        left: U of the thin SVD of W, or of W^T if W is tall, (..., k, k).
        singular_values: sigma, (..., k), falling; those within rtol are 0.
        right: V^T, (..., k, max(m, n)).
        outside: K(sigma, 0), which acts on the null space of W, (..., k, 1).
        inside: K(sigma_r, sigma_s) - K(sigma_r, 0), (..., k, k).
        tall: whether m > n.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    outside: Tensor
    inside: Tensor
    tall: bool

    def apply(self, grad: Tensor) -> Preconditioned:
        """Compute P_W(G) = U [inside o (U^T G V) V^T + outside o (U^T G)], G (..., m, n)."""
        projected = self.left.mH @ (grad.mH if self.tall else grad)
        core = projected @ self.right.mH
        # a copy: a view would keep all of core for as long as the slopes are kept
        slopes = core.diagonal(dim1=-2, dim2=-1).real.clone()
        if core.requires_grad or self.inside.requires_grad:  # a derivative needs what is between
            total = (self.inside * core) @ self.right + self.outside * projected
        else:
            core.mul_(self.inside)
            total = projected.mul_(self.outside)
            total = (
                total.addmm_(core, self.right) if total.ndim == 2 else total.add_(core @ self.right)
            )
        # laid out as G is: to pass over a transposed matrix takes three times as long
        direction = total.mH @ self.left.mH if self.tall else self.left @ total
        return Preconditioned(direction, self.singular_values, slopes)

    def slopes(self, matrix: Tensor) -> Tensor:
        """Compute u_r^T A v_r, (..., k): to first order, how much adding A changes sigma_r."""
        return (self._project(matrix) * self.right).sum(-1)

    def squared_norm(self, matrix: Tensor) -> Tensor:
        """Compute <A, P_W(A)> >= 0, (...), by half the products of P_W(A)."""
        projected = self._project(matrix)
        core = projected @ self.right.mT
        squares = (self.outside * projected.square()).sum((-2, -1))
        return squares + (self.inside * core.square()).sum((-2, -1))

    def trailing_norms(self, matrix: Tensor) -> Tensor:
        """Compute ||U_r^T A V_r||_F, (..., k), without the singular vectors before the r-th."""
        # U_r and V_r always include the null space of W
        projected = self._project(matrix)
        core = projected @ self.right.mT
        squares = core.square()
        if self.right.shape[-2] < self.right.shape[-1]:
            rest = projected - core @ self.right
            squares = torch.cat([squares, rest.square().sum(-1, keepdim=True)], dim=-1)
        # sums over the rows from the r-th on, then of the columns from the r-th on
        below = torch.ones_like(self.left).triu() @ squares
        return below.triu().sum(-1).sqrt()

    def _project(self, matrix: Tensor) -> Tensor:
        """Compute U^T A, (..., k, max(m, n)), of A or, if W is tall, of A^T."""
        return self.left.mH @ (matrix.mH if self.tall else matrix)


@dataclass(slots=True, eq=False)
class SingularBasis:
    """The thin SVD of W, (..., m, n), or of W^T if W is tall; k = min(m, n).

    Attributes:
        left: U, (..., k, k).
        singular_values: sigma, (..., k), falling.
        right: V^T, (..., k, max(m, n)).
        tall: whether m > n.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    tall: bool
    # the last P, and its options: of a depth that is no integer the kernel costs like the products
    _built: Preconditioner | None = None
    _options: tuple[Any, ...] = ()
    _largest: float | None = None

    def preconditioner(
        self, depth: float, rtol: float | None = None, imbalance: Imbalance = 0.0
    ) -> Preconditioner:
        """Build P of the matrix that has this basis."""
        options = (depth, rtol, imbalance)
        if self._built is not None and self._options == options:
            return self._built
        sigma, outside, inside = kernel_parts(self.singular_values, depth, rtol, imbalance)
        built = Preconditioner(self.left, sigma, self.right, outside, inside, self.tall)
        if not isinstance(imbalance, Tensor):
            self._built, self._options = built, options
        return built

    def peaks(self, of_weight_and_grad: Peaks) -> Peaks:
        """Take the largest singular value for the entry of W, which is another by now."""
        if of_weight_and_grad is None:
            return None
        if self._largest is None:
            self._largest = float(self.singular_values.amax())
        return self._largest, of_weight_and_grad[1]

    def with_values(self, singular_values: Tensor) -> "SingularBasis":
        """Replace sigma, (..., k)."""
        return SingularBasis(self.left, singular_values, self.right, self.tall)

    def built_tensors(self) -> list[Tensor]:
        """List what it holds beside the basis."""
        return [] if self._built is None else [self._built.inside]

    def real(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return U, sigma and V^T to be kept: complex numbers as pairs, in a last dimension."""
        left, right = (
            torch.view_as_real(each) if each.is_complex() else each
            for each in (self.left, self.right)
        )
        return left, self.singular_values, right

    @classmethod
    def from_real(
        cls, left: Tensor, sizes: Tensor, right: Tensor, *, tall: bool
    ) -> "SingularBasis":
        """Undo :meth:`real`."""
        if left.ndim == sizes.ndim + 2:
            left, right = torch.view_as_complex(left), torch.view_as_complex(right)
        return cls(left, sizes, right, tall)


def singular_basis(weight: Tensor) -> SingularBasis:
    """Decompose a finite W, (..., m, n), real or complex, in the ordinary range."""
    tall = weight.shape[-2] > weight.shape[-1]
    return SingularBasis(*block_svd(weight.mH if tall else weight), tall)


def preconditioner(
    weight: Tensor, depth: float, rtol: float | None = None, imbalance: Imbalance = 0.0
) -> Preconditioner:
    """Decompose a finite W, (..., m, n), real or complex, into P_W; nothing is checked."""
    tall = weight.shape[-2] > weight.shape[-1]
    wide = weight.mH if tall else weight
    u, sigma, vh = _row_svd(wide) if wide.shape[-2] == 1 else thin_svd(wide)
    sigma, outside, inside = kernel_parts(sigma, depth, rtol, imbalance)
    return Preconditioner(u, sigma, vh, outside, inside, tall)


def block_svd(blocks: Tensor) -> SVD:
    """Decompose (..., m, n), real or complex, thinly; one row or column in closed form."""
    if blocks.shape[-1] == 1 < blocks.shape[-2]:
        v, sigma, uh = block_svd(blocks.mH)
        return uh.mH, sigma, v.mH
    return _row_svd(blocks) if blocks.shape[-2] == 1 else thin_svd(blocks)


def _row_svd(row: Tensor) -> SVD:
    """Decompose W, (..., 1, n), in closed form."""
    # dividing by the largest entry first keeps the squares of the norm in range
    peak = row.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = row / torch.where(peak > 0, peak, 1.0)
    norm = torch.linalg.vector_norm(scaled, dim=(-2, -1), keepdim=True)
    direction = scaled / torch.where(norm > 0, norm, 1.0)
    return torch.ones_like(norm, dtype=row.dtype), (peak * norm).squeeze(-1), direction


def spectral_bound(matrix: Tensor) -> Tensor:
    """Bound the spectral norm, (...), of (..., m, n) from above by the Schatten-8 norm."""
    # at most min(m, n)^{1/8} times too large, 1.8 at 100, for two small products
    wide = matrix.mH if matrix.shape[-2] > matrix.shape[-1] else matrix
    peak = wide.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = wide / torch.where(peak > 0, peak, 1.0)
    square = scaled @ scaled.mH
    fourth = torch.linalg.matrix_norm(square @ square)
    bound: Tensor = peak[..., 0, 0] * fourth.sqrt().sqrt()
    return bound
