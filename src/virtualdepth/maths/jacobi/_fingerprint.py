"""A cheap fingerprint of a matrix, to notice that it was changed."""

from functools import lru_cache

import torch
from torch import Tensor

# a sum of n products taken in another order differs by a few times eps
_ROUNDING = 32


@lru_cache(maxsize=64)
def _direction(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # cos(k^2) is spread like random numbers, and needs no generator
    spread = torch.arange(size, dtype=dtype, device=device).square().cos()
    return spread + torch.copysign(torch.full_like(spread, 0.5), spread)


def direction_of(like: Tensor) -> Tensor:
    r"""Return the direction that probes take.

    :math:`z_k = c + \tfrac12 \operatorname{sign} c,\ c = \cos(k^2)`, k = 0, ..., n - 1: never
    near 0, so that no column is overlooked.

    Args:
        like: (..., n), gives size, dtype and place.

    Returns:
        (n,); always the same tensor: not to be written to.

    >>> direction_of(torch.zeros(2))
    tensor([1.5000, 1.0403])
    """
    return _direction(like.shape[-1], like.dtype, like.device)


def fingerprint(weight: Tensor) -> Tensor:
    """Compute W z for a fixed z, :func:`direction_of`.

    Args:
        weight: W, (..., m, n), float32 or float64.

    Returns:
        (..., m).

    >>> fingerprint(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor([3.0000, 1.0403])
    """
    return weight @ direction_of(weight)


def fingerprint_differs(weight: Tensor, kept: Tensor, *, exact: bool) -> Tensor:
    r"""Tell whether W is another matrix than the one that a probe was taken of.

    Args:
        weight: W, (..., m, n).
        kept: :func:`fingerprint` of what it should be.
        exact: whether a change of one bit counts; otherwise :math:`\|W z - \text{kept}\|` has to
            exceed :math:`32\,\epsilon\,\|W\|_F\,\|z\| / \sqrt{n}`, since another machine adds in
            another order.

    Returns:
        A boolean scalar; True where anything is NaN.

    >>> weight = torch.eye(3)
    >>> kept = fingerprint(weight)
    >>> fingerprint_differs(weight, kept, exact=True)
    tensor(False)
    >>> fingerprint_differs(0.9999 * weight, kept, exact=False)
    tensor(True)
    """
    z = direction_of(weight)
    here = weight @ z
    if exact:
        return (here != kept).any()
    size = torch.linalg.vector_norm(weight) * z.square().mean().sqrt()
    bound = _ROUNDING * torch.finfo(weight.dtype).eps * size
    # not ">": NaN differs from everything
    agrees: Tensor = torch.linalg.vector_norm(here - kept) <= bound
    return ~agrees
