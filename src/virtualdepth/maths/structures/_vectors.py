"""Blocks of one row or one column: P_W(G) in closed form, without a decomposition."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from virtualdepth.maths._checks import may_hold
from virtualdepth.maths._kernel import kernel_outside
from virtualdepth.maths._pieces import by_pieces, pieces
from virtualdepth.maths._preconditioner import Extent, Preconditioned
from virtualdepth.maths._profile import Imbalance, gain_rate, is_balanced
from virtualdepth.maths._range import ordinary_exponent
from virtualdepth.maths._step_size import largest_share


def lengths(vectors: Tensor, dim: int) -> Tensor:
    """Compute norms of vectors along ``dim``, 1 long there: no square leaves the range."""
    (squares,) = _dots(vectors, [vectors], dim)
    return _norms(vectors, squares, dim)


def _norms(vectors: Tensor, squares: Tensor, dim: int) -> Tensor:
    positive = squares > 0  # the derivative of a root at 0 is infinite
    norms = torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)
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
    r"""Compute P_w(g) of the vectors w along ``dim``, -1 or -2, in the ordinary range.

    .. math:: P_w(g) = K(s, 0)\, g + (K(s, s) - K(s, 0))\, \hat w\, \langle \hat w, g \rangle,
        \qquad s = \|w\|

    Returns:
        P_w(g), (..., m, n), and how to find its extent.
    """
    squares, dots = _dots(weight, [weight, grad], dim)
    norms = _norms(weight, squares, dim)
    # finite of the least numbers too, beside which an imbalance is all that counts
    inverse = 1 / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    slopes = dots * inverse
    outside = kernel_outside(norms, depth, imbalance)
    rates = gain_rate(norms, depth, imbalance)
    inside = (rates - outside) * slopes * inverse
    coefficients = outside.expand_as(grad), inside.expand_as(grad)
    direction = by_pieces(_combined, weight, grad, *coefficients)
    extent = partial(
        _extent_of_vectors, direction, dim, norms, (rates * slopes).abs(), depth, imbalance
    )
    return Preconditioned.of_blocks(direction, extent)


def _extent_of_vectors(
    direction: Tensor, dim: int, norms: Tensor, along: Tensor, depth: float, imbalance: Imbalance
) -> Extent:
    largest, whole = norms.amax(), along
    if not is_balanced(imbalance):
        whole = lengths(direction, dim)
        along = torch.where(norms > 0, along, whole)  # a zero moves along the gradient itself
    return Extent(largest, largest_share(norms, along, whole, largest, depth, imbalance))


def _combined(weight: Tensor, grad: Tensor, outside: Tensor, inside: Tensor) -> Tensor:
    return (outside * grad).addcmul_(inside, weight)


def _dots(one: Tensor, others: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Multiply vectors along ``dim``, 1 long there, with each of the others."""
    cut = pieces(one, *others) if one.ndim == 2 else [(one, *others)]
    dots = [[torch.linalg.vecdot(first, each, dim=dim) for each in rest] for first, *rest in cut]
    # a piece holds some of the rows whole, and of every column a part
    return [
        (torch.cat(parts) if dim == -1 else torch.stack(parts).sum(0)).unsqueeze(dim)
        for parts in zip(*dots, strict=True)
    ]


def precondition_numbers(
    weight: Tensor, grad: Tensor, depth: float, imbalance: Imbalance
) -> Preconditioned:
    """Compute P_w(g) = K(|w|, |w|) g of numbers, real or complex, in the ordinary range."""

    def moved(weight: Tensor, grad: Tensor) -> Tensor:
        return gain_rate(weight.abs(), depth, imbalance) * grad

    weight, grad, shape = weight.flatten(), grad.flatten(), weight.shape
    direction = by_pieces(moved, weight, grad)
    extent = partial(_extent_of_numbers, weight, direction, depth, imbalance)
    return Preconditioned.of_blocks(direction.reshape(shape), extent)


def _extent_of_numbers(
    weight: Tensor, direction: Tensor, depth: float, imbalance: Imbalance
) -> Extent:
    largest = torch.stack([w.abs().amax() for (w,) in pieces(weight)]).amax()
    shares = []
    for w, d in pieces(weight, direction):
        sizes = w.abs()
        if w.is_complex():  # a frequency may turn without becoming larger
            tiny = torch.finfo(sizes.dtype).tiny
            along = (w.conj() * d).real.abs() / sizes.clamp_min(tiny)
            whole = along if is_balanced(imbalance) else d.abs()
            along = torch.where(sizes > 0, along, whole)
        else:
            along = whole = d.abs()
        shares.append(largest_share(sizes, along, whole, largest, depth, imbalance))
    return Extent(largest, torch.stack(shares).amax())
