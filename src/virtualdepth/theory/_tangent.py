"""The neural tangent kernel of a linear network, as a function of its end-to-end matrix.

Source: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv 1806.07572 (the kernel); arXiv 1802.06509,
Theorem 1 (its value under balance).
"""

import torch
from torch import Tensor

from virtualdepth.maths import check_depth, depth_kernel, thin_svd


def tangent_kernel(weight: Tensor, inputs: Tensor, others: Tensor, depth: float) -> Tensor:
    r"""Evaluate the tangent kernel of a balanced N-layer linear network.

    .. math::
        \Theta(x, x') = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\;
        x^\top [W^\top W]^{(j-1)/N} x', \qquad P_W(g\,x'^\top)\,x = \Theta(x, x')\, g,

    for every real N >= 1; at infinite depth the limit of :math:`\Theta/N`. One thin SVD of W.

    Args:
        weight: W, (m, n), finite.
        inputs: x as rows, (samples, n).
        others: x' as rows, (others, n).
        depth: number of layers N, real, 1 <= N <= inf.

    Returns:
        (samples, others, m, m).

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is out of range, or shapes do not fit.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1802.06509, Theorem 1.

    >>> weight, x = torch.diag(torch.tensor([4.0, 9.0])), torch.tensor([[1.0, 1.0]])
    >>> tangent_kernel(weight, x, x, 2)[0, 0]  # x.x |W| + x^T |W| x = 2 |W| + 13
    tensor([[21.0000,  0.0000],
            [ 0.0000, 31.0000]])
    """
    depth = check_depth(depth)
    for name, rows in (("inputs", inputs), ("others", others)):
        if weight.ndim != 2 or rows.ndim != 2 or rows.shape[1] != weight.shape[1]:
            raise ValueError(
                f"{name}: expected rows of n numbers for a weight (m, n) but got "
                f"{tuple(rows.shape)} and {tuple(weight.shape)}"
            )
    # in float64: K itself need not be in the range of float32 where its product with x x' is
    dtype = weight.dtype
    weight, inputs, others = weight.double(), inputs.double(), others.double()
    u, sigma, vh = thin_svd(weight)
    zero = torch.zeros_like(sigma)
    # x.x' split along the right singular vectors, and what lies outside of them
    along = (inputs @ vh.mT).unsqueeze(1) * (others @ vh.mT)
    outside = (inputs @ others.mT).unsqueeze(-1) - along.sum(-1, keepdim=True)
    inside = depth_kernel(sigma.unsqueeze(-1), sigma, depth)
    # gain of each left singular vector, and of the directions orthogonal to all of them
    gains = along @ inside.mT + outside * depth_kernel(sigma, zero, depth)
    rest = (along * depth_kernel(zero, sigma, depth)).sum(-1, keepdim=True)
    rest = rest + outside * depth_kernel(zero[:1], zero[:1], depth)
    identity = torch.eye(weight.shape[0], dtype=weight.dtype, device=weight.device)
    kernel = (u * (gains - rest).unsqueeze(-2)) @ u.mT + rest.unsqueeze(-1) * identity
    return kernel.to(dtype)
