"""Blocks of one row or one column: P_W(G) in closed form, without a decomposition."""

import math

import torch
from torch import Tensor

from virtualdepth.maths._checks import may_hold
from virtualdepth.maths._kernel import kernel_outside
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance, gain_rate, is_balanced
from virtualdepth.maths._range import ordinary_exponent


def lengths(vectors: Tensor, dim: int) -> Tensor:
    """Compute norms of vectors along ``dim``, 1 long there: no square leaves the range."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    bound = 2.0 ** ordinary_exponent(norms.dtype)
    if may_hold((norms < 1 / bound) | (norms > bound)):
        peaks = torch.linalg.vector_norm(vectors, ord=math.inf, dim=dim, keepdim=True)
        peaks = torch.where(peaks > 0, peaks, 1.0).detach()
        norms = peaks * torch.linalg.vector_norm(vectors / peaks, dim=dim, keepdim=True)
    return norms


def unit_vectors(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Split vectors along ``dim`` into norms, 1 long there, and directions; of 0 it is 0."""
    norms = lengths(vectors, dim)
    return norms, vectors / torch.where(norms > 0, norms, 1.0)


def precondition_vectors(
    weight: Tensor, grad: Tensor, dim: int, depth: float, imbalance: Imbalance
) -> Preconditioned:
    r"""Compute P_w(g) of the vectors w along ``dim``, in the ordinary range.

    .. math:: P_w(g) = K(s, 0)\, g + (K(s, s) - K(s, 0))\, \hat w\, \langle \hat w, g \rangle,
        \qquad s = \|w\|

    Returns:
        P_w(g), with the norms as singular values.
    """
    norms = lengths(weight, dim)
    inverse = 1 / torch.where(norms > 0, norms, 1.0)
    slopes = torch.linalg.vecdot(weight, grad, dim=dim).unsqueeze(dim) * inverse
    outside = kernel_outside(norms, depth, imbalance)
    inside = gain_rate(norms, depth, imbalance) - outside
    direction = (outside * grad).addcmul_(inside * slopes * inverse, weight)
    bound = None
    if not is_balanced(imbalance):
        # a zero moves along the gradient itself
        slopes = torch.where(norms > 0, slopes, -lengths(grad, dim))
        bound = lengths(direction, dim).amax()
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
        zeros = sizes == 0
        if may_hold(zeros):  # they move along the gradient itself
            slopes = torch.where(zeros, -grad.abs(), slopes)
        bound = direction.abs().amax()
    return Preconditioned(direction, sizes.flatten(), slopes.flatten(), scaled_bound=bound)
