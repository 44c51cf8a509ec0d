"""P_W, the preconditioner of the end-to-end rule, exactly, by one thin SVD of W.

Source: arXiv 1802.06509, Theorem 1 (the rule), Claim 1 (its spectrum), Claim 2 (single outputs).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._checks import (
    check_depth,
    check_finite,
    check_matrix,
    check_rtol,
    check_same_shape,
)
from virtualdepth.maths._kernel import kernel_inside, kernel_outside
from virtualdepth.maths._range import Units, in_units, out_of_unit
from virtualdepth.maths._svd import SVD, thin_svd


class Preconditioned(NamedTuple):
    """P_W(G), and what its computation found out about W and G.

    The fields are those of W and G in ``units``, which no dtype is too small for; the properties
    are those of W and G themselves.

    Attributes:
        scaled_direction: P_W(G), (..., m, n).
        scaled_singular_values: sigma of W, (..., min(m, n)), falling; those within rtol are 0.
        scaled_slopes: the loss's derivatives along them, <G, u_r v_r^T>, (..., min(m, n)).
        units: of W and G; None for 1.
    """

    scaled_direction: Tensor
    scaled_singular_values: Tensor
    scaled_slopes: Tensor
    units: Units | None = None

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
        units: list[Units | None] = [None] * len(self.scaled_direction)
        if self.units is not None:
            weight, grad, gain = self.units
            units = [Units(*each, gain) for each in zip(weight, grad, strict=True)]
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
        projected = self._project(grad)
        core = projected @ self.right.mT
        direction = self.left @ ((self.inside * core) @ self.right + self.outside * projected)
        # a copy: a view would keep all of core for as long as the slopes are kept
        slopes = core.diagonal(dim1=-2, dim2=-1).clone()
        return Preconditioned(
            direction.mT if self.tall else direction, self.singular_values, slopes
        )

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
        return self.left.mT @ (matrix.mT if self.tall else matrix)


def preconditioner(weight: Tensor, depth: float, rtol: float | None = None) -> Preconditioner:
    """Decompose a finite W, (..., m, n), float32 or float64, into P_W; nothing is checked."""
    tall = weight.shape[-2] > weight.shape[-1]
    wide = weight.mT if tall else weight
    u, sigma, vh = _row_svd(wide) if wide.shape[-2] == 1 else thin_svd(wide)
    if rtol is None:
        rtol = torch.finfo(sigma.dtype).eps
    sigma = torch.where(sigma > rtol * sigma[..., :1], sigma, 0.0)
    # K(sigma, 0) acts on the null space of W, where the thin SVD has no basis
    outside = kernel_outside(sigma, depth).unsqueeze(-1)
    return Preconditioner(u, sigma, vh, outside, kernel_inside(sigma, depth), tall)


def _row_svd(row: Tensor) -> SVD:
    """Decompose W, (..., 1, n), in closed form."""
    # dividing by the largest entry first keeps the squares of the norm in range
    peak = row.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = row / torch.where(peak > 0, peak, 1.0)
    norm = torch.linalg.vector_norm(scaled, dim=(-2, -1), keepdim=True)
    direction = scaled / torch.where(norm > 0, norm, 1.0)
    return torch.ones_like(norm), (peak * norm).squeeze(-1), direction


def preconditioned_gradient(
    weight: Tensor, grad: Tensor, depth: float, rtol: float | None = None
) -> Preconditioned:
    """Compute P_W(G) in float64 if an input is, else float32; nothing is checked."""
    # the optimizers check before, and multiply by the learning rate before they round
    weight, grad, units = in_units(weight, grad, depth)
    found = preconditioner(weight, depth, rtol).apply(grad)
    return found if units is None else found._replace(units=units)


def precondition(
    weight: Tensor, grad: Tensor, depth: float, *, rtol: float | None = None
) -> Tensor:
    r"""Apply the preconditioner of an N-layer linear network to the gradient of one matrix.

    .. math:: P_W(G) = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}

    for every real N >= 1; at infinite depth the limit of :math:`P_W(G)/N`. N = 1 returns G. It is
    linear in G, positive semidefinite, and symmetric under transposition. With the thin SVD
    :math:`W = U S V^\top`, m <= n, and :math:`k_0 = \sigma^{2-2/N}` it equals

    .. math:: U\,[(K - k_0 1^\top) \circ (U^\top G V)\, V^\top + k_0 \circ (U^\top G)],

    which needs no basis of the null space. A matrix of one row or column needs no decomposition:
    :math:`\|w\|^{2-2/N} (g + (N-1)\,\hat w \hat w^\top g)`.

    Args:
        weight: W, (..., m, n), finite.
        grad: G, of the same shape.
        depth: number of layers N, real, 1 <= N <= inf.
        rtol: singular values <= ``rtol`` times the largest count as exactly 0. Default: the machine
            epsilon of the dtype computed in. P_W is only Hoelder continuous of order 2/N at a zero
            singular value, so numerical zeros above ``rtol`` make an error of about eps^{2/N};
            a larger ``rtol`` freezes modes that the flow would grow.

    Returns:
        P_W(G) in the shape and dtype of ``grad``, right to rounding for W and G of any size, and
        inf where the dtype cannot hold it; the inputs are not written to. Half precision is
        computed in float32. Differentiable in ``grad``, and in ``weight`` where its singular values
        are distinct and positive. Elsewhere the derivative of the SVD is infinite, and that in
        ``weight`` is undefined: NaN, inf or any number.

    Raises:
        TypeError: if an input is complex, integer or sparse, or ``depth`` or ``rtol`` is not a real
            number.
        ValueError: if shapes differ or have fewer than two dimensions, if ``depth`` or ``rtol`` is
            out of range, or if ``weight`` is not finite where the depth is more than 1.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1802.06509, Theorem 1 and Claim 2.

    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> precondition(weight, torch.ones(2, 2), 2)  # K(a, b) = a + b
    tensor([[ 8.0000, 13.0000],
            [13.0000, 18.0000]])
    >>> precondition(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), 2)
    tensor([[6.8000, 2.4000]])
    """
    depth = check_depth(depth)
    rtol = check_rtol(rtol)
    check_matrix(weight)
    check_matrix(grad, "grad")
    check_same_shape(weight, grad, "grad")
    if depth == 1 or weight.numel() == 0:
        return grad.clone()
    check_finite(weight)
    # under autocast the products below would silently be taken in half precision
    with torch.autocast(weight.device.type, enabled=False):
        return preconditioned_gradient(weight, grad, depth, rtol).direction.to(grad.dtype)
