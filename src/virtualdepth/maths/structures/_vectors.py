"""Blocks of one row or one column: P_W(G) in closed form, without a decomposition."""

import torch
from torch import Tensor

from virtualdepth.maths._kernel import kernel_inside, kernel_outside
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance, gain_rate, is_balanced


def unit_vectors(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Split vectors along ``dim`` into norms, 1 long there, and directions; of 0 it is 0."""
    norms = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return norms, vectors / torch.where(norms > 0, norms, 1.0)


def precondition_vectors(
    weight: Tensor, grad: Tensor, dim: int, depth: float, imbalance: Imbalance
) -> Preconditioned:
    r"""Compute P_w(g) of vectors w along ``dim``, in the ordinary range.

    .. math:: P_w(g) = K(s, 0)\, g + (K(s, s) - K(s, 0))\, \hat w\, \langle \hat w, g \rangle,
        \qquad s = \|w\|

    Returns:
        P_w(g), with the norms as singular values.
    """
    norms = torch.linalg.vector_norm(weight, dim=dim, keepdim=True)
    inverse = 1 / torch.where(norms > 0, norms, 1.0)
    slopes = torch.linalg.vecdot(weight, grad, dim=dim).unsqueeze(dim) * inverse
    outside = kernel_outside(norms, depth, imbalance)
    inside = kernel_inside(norms.unsqueeze(-1), depth, imbalance=imbalance)[..., 0, 0]
    direction = torch.addcmul(outside * grad, inside * slopes * inverse, weight)
    bound = None
    if not is_balanced(imbalance):
        # a zero moves along the gradient itself
        lengths = torch.linalg.vector_norm(grad, dim=dim, keepdim=True)
        slopes = torch.where(norms > 0, slopes, -lengths)
        bound = torch.linalg.vector_norm(direction, dim=dim).amax()
    return Preconditioned(direction, norms.flatten(), slopes.flatten(), scaled_bound=bound)


def precondition_numbers(
    weight: Tensor, grad: Tensor, depth: float, imbalance: Imbalance
) -> Preconditioned:
    """Compute P_w(g) = K(|w|, |w|) g of numbers, real or complex, in the ordinary range."""
    sizes = weight.abs()
    direction = gain_rate(sizes, depth, imbalance) * grad
    slopes = (torch.sgn(weight).conj() * grad).real
    bound = None
    if not is_balanced(imbalance):
        slopes = torch.where(sizes > 0, slopes, -grad.abs())
        bound = direction.abs().amax()
    return Preconditioned(direction, sizes.flatten(), slopes.flatten(), scaled_bound=bound)
