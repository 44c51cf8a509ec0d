"""P_W as a linear map: what one thin SVD of W tells, to be applied to as many matrices as need be.

Source: arXiv 1802.06509, Theorem 1 (the rule), Claim 1 (its spectrum), Claim 2 (single outputs).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._kernel import kernel_inside, kernel_outside
from virtualdepth.maths._svd import SVD, thin_svd


class Preconditioned(NamedTuple):
    """P_W(G), and what its computation learnt of W and G on the way.

    Attributes:
        direction: P_W(G), (..., m, n).
        singular_values: sigma of W, (..., min(m, n)), falling; those within rtol are 0.
        slopes: the loss's derivatives along them, <G, u_r v_r^T>, (..., min(m, n)).
    """

    direction: Tensor
    singular_values: Tensor
    slopes: Tensor


class Preconditioner(NamedTuple):
    """P_W, the inverse of the metric that the rule is gradient descent in, in the basis of W.

    Attributes:
        left: U of the thin SVD of W, or of W^T if W is tall, (..., k, k), k = min(m, n).
        singular_values: sigma, (..., k), falling; those within rtol are 0.
        right: V^T, (..., k, max(m, n)).
        outside: K(sigma, 0), what acts on the null space of W, (..., k, 1).
        inside: K(sigma_r, sigma_s) - K(sigma_r, 0), (..., k, k).
        tall: whether W is, and the decomposition that of W^T.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor
    outside: Tensor
    inside: Tensor
    tall: bool

    def apply(self, grad: Tensor) -> Preconditioned:
        """Compute P_W(G).

        Args:
            grad: G, (..., m, n), in the dtype of W.

        Returns:
            P_W(G), the singular values of W and the slopes of G along them.

        >>> metric = preconditioner(torch.diag(torch.tensor([4.0, 9.0])), 2.0)
        >>> metric.apply(torch.ones(2, 2)).direction  # K(a, b) = a + b
        tensor([[ 8.0000, 13.0000],
                [13.0000, 18.0000]])
        """
        projected = self.left.mT @ (grad.mT if self.tall else grad)
        core = projected @ self.right.mT
        direction = self.left @ ((self.inside * core) @ self.right + self.outside * projected)
        # a copy: a view would keep all of core for as long as the slopes are kept
        slopes = core.diagonal(dim1=-2, dim2=-1).clone()
        return Preconditioned(
            direction.mT if self.tall else direction, self.singular_values, slopes
        )

    def slopes(self, matrix: Tensor) -> Tensor:
        r"""Compute :math:`u_r^\top A v_r`: to first order what adding A does to sigma_r.

        Args:
            matrix: A, (..., m, n), in the dtype of W.

        Returns:
            (..., k), in the order of the singular values.

        >>> metric = preconditioner(torch.diag(torch.tensor([4.0, 9.0])), 2.0)
        >>> metric.slopes(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))  # of 9, then of 4
        tensor([5., 1.])
        """
        projected = self.left.mT @ (matrix.mT if self.tall else matrix)
        return (projected * self.right).sum(-1)

    def squared_norm(self, matrix: Tensor) -> Tensor:
        r"""Compute :math:`\langle A, P_W(A) \rangle` by half the products of P_W(A).

        Args:
            matrix: A, (..., m, n), in the dtype of W.

        Returns:
            (...), >= 0.

        >>> metric = preconditioner(torch.diag(torch.tensor([4.0, 9.0])), 2.0)
        >>> metric.squared_norm(torch.ones(2, 2))  # 8 + 2 * 13 + 18
        tensor(52.)
        """
        projected = self.left.mT @ (matrix.mT if self.tall else matrix)
        core = projected @ self.right.mT
        squares = (self.outside * projected.square()).sum((-2, -1))
        return squares + (self.inside * core.square()).sum((-2, -1))

    def trailing_norms(self, matrix: Tensor) -> Tensor:
        r"""Compute :math:`\|U_r^\top A V_r\|_F`, the singular vectors before the r-th left out.

        Those of the null space of W are in all :math:`U_r` and :math:`V_r`.

        Args:
            matrix: A, (..., m, n), in the dtype of W.

        Returns:
            (..., k), in the order of the singular values.

        >>> metric = preconditioner(torch.diag(torch.tensor([4.0, 9.0])), 2.0)
        >>> metric.trailing_norms(torch.tensor([[1.0, 2.0], [4.0, 10.0]]))  # all, and that of 4
        tensor([11.,  1.])
        """
        projected = self.left.mT @ (matrix.mT if self.tall else matrix)
        core = projected @ self.right.mT
        squares = core.square()
        if self.right.shape[-2] < self.right.shape[-1]:
            rest = projected - core @ self.right
            squares = torch.cat([squares, rest.square().sum(-1, keepdim=True)], dim=-1)
        # sums over the rows from the r-th on, then of the columns from the r-th on
        below = torch.ones_like(self.left).triu() @ squares
        return below.triu().sum(-1).sqrt()


def preconditioner(weight: Tensor, depth: float, rtol: float | None = None) -> Preconditioner:
    r"""Decompose W, once for all matrices that P_W will be applied to.

    Args:
        weight: W, (..., m, n), finite, float32 or float64.
        depth: a valid depth.
        rtol: a valid tolerance, see :func:`virtualdepth.precondition`.

    Returns:
        P_W.

    Source: arXiv 1802.06509, Theorem 1 and Claim 1.

    >>> metric = preconditioner(torch.tensor([[3.0], [4.0]]), 2.0)
    >>> metric.singular_values, metric.tall
    (tensor([5.]), True)
    """
    tall = weight.shape[-2] > weight.shape[-1]
    u, sigma, vh = _decomposed(weight.mT if tall else weight)
    if rtol is None:
        rtol = torch.finfo(sigma.dtype).eps
    sigma = torch.where(sigma > rtol * sigma[..., :1], sigma, 0.0)
    # K(sigma, 0): what acts on the null space of W, where the thin SVD has no basis
    outside = kernel_outside(sigma, depth).unsqueeze(-1)
    return Preconditioner(u, sigma, vh, outside, kernel_inside(sigma, depth), tall)


def _decomposed(wide: Tensor) -> SVD:
    if wide.shape[-2] != 1:
        return thin_svd(wide)
    # dividing by the largest entry first keeps the squares of the norm in range
    peak = wide.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = wide / torch.where(peak > 0, peak, 1.0)
    norm = torch.linalg.vector_norm(scaled, dim=(-2, -1), keepdim=True)
    direction = scaled / torch.where(norm > 0, norm, 1.0)
    return torch.ones_like(norm), (peak * norm).squeeze(-1), direction
