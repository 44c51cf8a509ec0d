r"""P_W(G) of a matrix whose rows lie in several places, from one sum of small matrices.

With :math:`A = W^\top W` and :math:`C = W^\top G`, both sums over the rows, P_W(G) is a sum of two
products that act on each row by itself, so no place needs the rows of another. A matrix whose
columns lie in several places is the same with everything transposed.

Source: arXiv 1802.06509, Theorem 1 (the rule) and Claim 1 (its spectrum).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._checks import working_dtype
from virtualdepth.maths._kernel import depth_kernel, kernel_outside
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._svd import LinAlgError

# Squaring W leaves noise of sqrt(eps) sigma_1 = 1.5e-8 sigma_1 in place of zero singular values
_FLOOR = 1e-7
# below it the squares lose digits to underflow
_SMALLEST = torch.finfo(torch.float64).tiny / torch.finfo(torch.float64).eps ** 2


class GramPreconditioner(NamedTuple):
    """P_W as it acts on rows of W and G: P_W(G) = G ``on_grad`` + W ``on_weight``.

    That of a :class:`GramBasis` acts on rows of U in place of W.

    Attributes:
        on_grad: V K(sigma, 0) V^T, (n, n), float64.
        on_weight: (n, n), float64.
        singular_values: sigma of W, (min(m, n),), falling; those that count as 0 are 0.
        slopes: <G, u_r v_r^T>, (min(m, n),); 0 where sigma is.
    """

    on_grad: Tensor
    on_weight: Tensor
    singular_values: Tensor
    slopes: Tensor

    def apply(self, weight: Tensor, grad: Tensor) -> Preconditioned:
        """Compute some rows of P_W(G), (r, n), from the same rows of W and G; r may be 0."""
        # the products are taken in float64: `on_weight` holds 1 / sigma
        dtype = working_dtype(weight, grad)
        direction = grad.double() @ self.on_grad + weight.double() @ self.on_weight
        return Preconditioned(
            direction.to(dtype), self.singular_values.to(dtype), self.slopes.to(dtype)
        )


class GramBasis(NamedTuple):
    """The singular values of W, (m, n), with their right vectors: what its Gram matrix tells.

    Attributes:
        singular_values: sigma, (n,), rising, float64; those that count as 0 are 0.
        right: V, (n, n), one in each column, float64.
    """

    singular_values: Tensor
    right: Tensor

    @property
    def inverse(self) -> Tensor:
        """1 / sigma, (n, 1); 0 where sigma is."""
        sigma = self.singular_values
        return torch.where(sigma > 0, 1 / sigma, 0.0).unsqueeze(-1)

    def left(self, weight: Tensor) -> Tensor:
        """Compute rows of U, (r, n), from the same rows of W; its columns are 0 where sigma is."""
        left: Tensor = (weight.double() @ self.right * self.inverse.mT).to(working_dtype(weight))
        return left

    def preconditioner(
        self, cross: Tensor, rank: int, depth: float, imbalance: float = 0.0
    ) -> GramPreconditioner:
        """Build P of the W with this basis, given U^T G, (n, n); ``rank`` is min(m, n)."""
        return self._preconditioner(cross @ self.right, None, rank, depth, imbalance)

    def of_sums(
        self, cross: Tensor, rank: int, depth: float, imbalance: float = 0.0
    ) -> GramPreconditioner:
        """Build the same, given W^T G, to act on rows of W."""
        # in units of U^T G V: V^T W^T G V alone has a factor sigma_a in row a
        core = self.inverse * (self.right.T @ cross @ self.right)
        return self._preconditioner(core, self.right, rank, depth, imbalance)

    def _preconditioner(
        self, core: Tensor, left: Tensor | None, rank: int, depth: float, imbalance: float
    ) -> GramPreconditioner:
        sigma, v = self
        outside = kernel_outside(sigma, depth, imbalance)
        inside = depth_kernel(sigma.unsqueeze(-1), sigma, depth, imbalance) - outside
        on_left = inside * core if left is None else left @ (self.inverse * inside * core)
        return GramPreconditioner(
            (v * outside) @ v.T,
            on_left @ v.T,
            sigma.flip(-1)[:rank],
            core.diagonal().flip(-1)[:rank],
        )


def gram_block_size(columns: int) -> int:
    """Count the numbers of a Gram block of n columns: 1.5 n^2 + n / 2."""
    return columns * (columns + 1) // 2 + columns**2


def gram_block(weight: Tensor, grad: Tensor) -> Tensor:
    """Compute the part of some rows, (r, n), in W^T W (its upper triangle) and in W^T G, flat."""
    # in float64: in float32 the squares would lose half of the digits
    weight, grad = weight.double(), grad.double()
    columns = weight.shape[-1]
    row, column = torch.triu_indices(columns, columns, device=weight.device)
    return torch.cat([(weight.T @ weight)[row, column], (weight.T @ grad).flatten()])


def gram_preconditioner(
    block: Tensor, shape: tuple[int, int], depth: float, rtol: float, imbalance: float = 0.0
) -> GramPreconditioner | None:
    r"""Turn the sum of the blocks of all rows into P_W; ``shape`` is (m, n) of the whole W.

    With :math:`A = V \mathrm{diag}(\sigma^2) V^\top`, :math:`M = V^\top C V` and
    :math:`k_0 = K(\sigma, 0)`,

    .. math::
        P_W(G) = G\, V k_0 V^\top
        + W\, V \left[\frac{K(\sigma_a, \sigma_b) - k_0(\sigma_b)}{\sigma_a^2} M_{ab}\right] V^\top,

    where rows of zero singular values are 0.

    Returns:
        P_W; None where :func:`gram_basis` finds none.
    """
    basis = gram_basis(block, shape, rtol)
    return basis and basis.of_sums(gram_cross(block, shape[1]), min(shape), depth, imbalance)


def gram_cross(block: Tensor, columns: int) -> Tensor:
    """Read W^T G, (n, n), from a block."""
    return block[-(columns**2) :].view(columns, columns)


def gram_basis(block: Tensor, shape: tuple[int, int], rtol: float) -> GramBasis | None:
    """Turn the sum of the blocks of all rows into a basis; ``shape`` is (m, n) of the whole W.

    For a wide W, n - m zeros are known to be exact.

    Returns:
        V and sigma; None where the squares do not determine the spectrum: W is zero, its squares
        underflow or overflow, or a singular value that must not count as 0 may lie within 1e-7 of
        the largest, in the noise of squaring. Then W itself must be decomposed. Equal blocks give
        equal answers, so all processes decide alike.
    """
    gram = _unpack(block, shape[1])
    if not (torch.isfinite(block).all() and gram.diagonal().sum() > _SMALLEST):
        return None
    try:
        squares, v = torch.linalg.eigh(gram)
    except LinAlgError:
        return None
    rank = min(shape)
    squares[: shape[1] - rank] = 0
    sigma = squares.clamp_min(0).sqrt()
    if rtol < _FLOOR and sigma[-rank] <= _FLOOR * sigma[-1]:
        return None
    sigma = torch.where(sigma > rtol * sigma[-1], sigma, 0.0)
    return GramBasis(sigma, v)


def _unpack(block: Tensor, columns: int) -> Tensor:
    """Read W^T W, (n, n), from a block."""
    upper = block[: -(columns**2)]
    row, column = torch.triu_indices(columns, columns, device=block.device)
    gram = block.new_zeros(columns, columns)
    gram[row, column] = upper
    gram[column, row] = upper
    return gram
