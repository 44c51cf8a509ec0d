r"""A cheap fingerprint of a matrix, W z for a fixed vector z, which tells whether it was changed.

:math:`z_k = c + \tfrac12 \operatorname{sign} c,\ c = \cos(k^2)`, k = 0, ..., n - 1, is never near
0, so that no column is overlooked.
"""

from functools import lru_cache

import torch
from torch import Tensor

# a sum of n products taken in another order differs by a few times eps
_ROUNDING = 32


@lru_cache(maxsize=64)
def _direction(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Compute z, (size,)."""
    # cos(k^2) is spread like random numbers, and needs no generator
    spread = torch.arange(size, dtype=dtype, device=device).square().cos()
    return spread + torch.copysign(torch.full_like(spread, 0.5), spread)


def fingerprint_direction(like: Tensor) -> Tensor:
    """Return z, (n,), for ``like``, (..., n); always the same tensor, so do not write to it."""
    return _direction(like.shape[-1], like.dtype, like.device)


def fingerprint(weight: Tensor) -> Tensor:
    """Compute W z, (..., m), of W, (..., m, n), float32 or float64."""
    return weight @ fingerprint_direction(weight)


def fingerprint_differs(weight: Tensor, kept: Tensor, *, exact: bool) -> bool:
    r"""Tell whether W is another matrix than the one with the fingerprint ``kept``.

    If ``exact``, a change of one bit counts. Otherwise the difference must exceed
    :math:`32\,\epsilon\,\|W\|_F\,\|z\| / \sqrt{n}`, since another machine adds in another order.

    Returns:
        True where anything is NaN.
    """
    z = fingerprint_direction(weight)
    here = weight @ z
    if exact:
        return not torch.equal(here, kept)
    size = torch.linalg.vector_norm(weight) * z.square().mean().sqrt()
    bound = _ROUNDING * torch.finfo(weight.dtype).eps * size
    # not ">": NaN differs from everything
    return not torch.linalg.vector_norm(here - kept) <= bound
