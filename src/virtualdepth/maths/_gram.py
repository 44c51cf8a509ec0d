r"""P_W(G) of a matrix whose rows lie in several places, from one sum of small matrices.

With :math:`A = W^\top W` and :math:`C = W^\top G`, both sums over the rows, P_W(G) is a sum of two
products that act on each row by itself, so no place needs the rows of another. A matrix whose
columns lie in several places is the same with everything transposed.

Source: arXiv 1802.06509, Theorem 1 (the rule) and Claim 1 (its spectrum).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._kernel import depth_kernel, gain_exponent
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._svd import LinAlgError

# Squaring W leaves noise of sqrt(eps) sigma_1 = 1.5e-8 sigma_1 in place of zero singular values
_FLOOR = 1e-7
# below it the squares lose digits to underflow
_SMALLEST = torch.finfo(torch.float64).tiny / torch.finfo(torch.float64).eps ** 2


class GramPreconditioner(NamedTuple):
    """What acts on the rows: P_W(G) = G ``on_grad`` + W ``on_weight``.

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
        """Compute the rows of P_W(G) that belong to some rows of W and G.

        Args:
            weight: any rows of W, (r, n), r >= 0.
            grad: the same rows of G.

        Returns:
            Those rows of P_W(G), with what is known of the whole W; in float64 if an input is, else
            float32. The products are taken in float64: ``on_weight`` holds 1 / sigma.

        >>> rows = torch.tensor([[4.0, 0.0], [0.0, 9.0]])
        >>> factors = gram_preconditioner(gram_block(rows, torch.ones(2, 2)), (2, 2), 2.0, 1e-7)
        >>> factors.apply(rows[:1], torch.ones(1, 2)).direction  # K(a, b) = a + b
        tensor([[ 8., 13.]])
        """
        dtype = torch.promote_types(torch.promote_types(weight.dtype, grad.dtype), torch.float32)
        direction = grad.double() @ self.on_grad + weight.double() @ self.on_weight
        return Preconditioned(
            direction.to(dtype), self.singular_values.to(dtype), self.slopes.to(dtype)
        )


def gram_block_size(columns: int) -> int:
    """Count the numbers of :func:`gram_block`, 1.5 n^2 + n / 2.

    Args:
        columns: n.

    Returns:
        Their number.

    >>> gram_block_size(4)
    26
    """
    return columns * (columns + 1) // 2 + columns**2


def gram_block(weight: Tensor, grad: Tensor) -> Tensor:
    """Compute what some rows add to W^T W, of which the upper triangle is kept, and to W^T G.

    Blocks of all rows, in any order and split in any way, add up to the block of the matrix.

    Args:
        weight: any rows of W, (r, n), r >= 0, finite.
        grad: the same rows of G.

    Returns:
        (1.5 n^2 + n / 2,), float64: in float32 the squares would lose half of the digits.

    >>> gram_block(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]))
    tensor([1., 2., 4., 3., 0., 6., 0.], dtype=torch.float64)
    """
    weight, grad = weight.double(), grad.double()
    columns = weight.shape[-1]
    row, column = torch.triu_indices(columns, columns, device=weight.device)
    return torch.cat([(weight.T @ weight)[row, column], (weight.T @ grad).flatten()])


def gram_preconditioner(
    block: Tensor, shape: tuple[int, int], depth: float, rtol: float
) -> GramPreconditioner | None:
    r"""Turn the sum of all blocks into what acts on the rows.

    With :math:`A = V \mathrm{diag}(\sigma^2) V^\top`, :math:`M = V^\top C V` and
    :math:`k_0 = K(\sigma, 0)`,

    .. math::
        P_W(G) = G\, V k_0 V^\top
        + W\, V \left[\frac{K(\sigma_a, \sigma_b) - k_0(\sigma_b)}{\sigma_a^2} M_{ab}\right] V^\top,

    where rows of zero singular values are 0. Of a wide W, n - m zeros are known to be exact.

    Args:
        block: the sum of :func:`gram_block` over all rows.
        shape: (m, n) of the whole W.
        depth: a valid depth, more than 1.
        rtol: singular values <= ``rtol`` times the largest count as 0.

    Returns:
        The factors; None where the squares do not tell the spectrum: a singular value that is not
        to count as 0 may lie within 1e-7 of the largest, where squaring leaves noise, or W is zero,
        or its squares underflow or overflow. Then the matrix has to be decomposed itself. Equal
        blocks give equal answers.

    Source: arXiv 1802.06509, Theorem 1 and Claim 1.

    >>> weight = torch.tensor([[3.0], [4.0]])
    >>> gram_preconditioner(gram_block(weight, torch.ones(2, 1)), (2, 1), 2.0, 1e-7).singular_values
    tensor([5.], dtype=torch.float64)
    >>> singular = torch.ones(2, 2, dtype=torch.float64)
    >>> gram_preconditioner(gram_block(singular, singular), (2, 2), 2.0, 1e-16) is None
    True
    """
    gram, cross = _unpacked(block, shape[1])
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
    inverse = torch.where(sigma > 0, 1 / sigma, 0.0)
    # in units of U^T G V: M alone has a factor sigma_a in row a
    core = inverse.unsqueeze(-1) * (v.T @ cross @ v)
    outside = sigma.pow(gain_exponent(depth)) if math.isfinite(depth) else torch.zeros_like(sigma)
    inside = depth_kernel(sigma.unsqueeze(-1), sigma, depth) - outside
    return GramPreconditioner(
        (v * outside) @ v.T,
        v @ (inverse.unsqueeze(-1) * inside * core) @ v.T,
        sigma.flip(-1)[:rank],
        core.diagonal().flip(-1)[:rank],
    )


def _unpacked(block: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    upper, cross = block[: -(columns**2)], block[-(columns**2) :]
    row, column = torch.triu_indices(columns, columns, device=block.device)
    gram = block.new_zeros(columns, columns)
    gram[row, column] = upper
    gram[column, row] = upper
    return gram, cross.view(columns, columns)
