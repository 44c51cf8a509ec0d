"""What of a matrix was observed: from NaN, a mask, or the explicit entries of a sparse matrix."""

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor


class Observations(NamedTuple):
    """A matrix of which some entries are known.

    Attributes:
        values: (m, n), 0 where nothing was observed.
        mask: (m, n), boolean, true where observed.
    """

    values: Tensor
    mask: Tensor


def without_mask(data: Any) -> Any:
    """Turn a masked array into one with NaN; numpy's conversions would drop the mask.

    Args:
        data: anything.

    Returns:
        An array where ``data`` was a masked array, else ``data``.
    """
    if isinstance(data, np.ma.MaskedArray):
        # integers have no NaN; what cannot be a number is refused later
        return np.ma.filled(data if data.dtype.kind in "fcO" else data.astype(float), np.nan)
    return data


def observations(data: Any) -> Observations:
    """Read which entries were observed.

    Args:
        data: a finite float array with NaN where nothing was observed, or a scipy sparse CSR
            matrix whose explicit entries, zeros among them, were; duplicates add up.

    Returns:
        Values and mask, of their own memory.
    """
    if issparse(data):
        stored = data.copy()
        stored.data = np.ones_like(stored.data)
        values, mask = data.toarray(), stored.toarray() > 0
        mask &= ~np.isnan(values)
    else:
        values, mask = data, ~np.isnan(data)
    known = np.where(mask, values, values.dtype.type(0))
    # numpy keeps the order of columns first
    return Observations(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (known, mask)))


def check_observed(mask: Tensor) -> None:
    """Refuse a matrix of which nothing, or nothing of some column, is known.

    Args:
        mask: (m, n), true where observed.

    Raises:
        ValueError: if there is no observed entry, or a column without one.
    """
    if not mask.any():
        raise ValueError("X: expected at least one observed entry but got none")
    empty = (~mask.any(0)).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        raise ValueError(
            "X: expected an observed entry in every column but got none in "
            f"{len(empty)} of {mask.shape[1]} (index {named}); drop them"
        )


def hold_out(mask: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split the observed entries at random; at least one is left to fit.

    Args:
        mask: (m, n), true where observed.
        fraction: of the observed entries to hold out.
        generator: of the draw.

    Returns:
        Masks of the entries to fit and of those held out, which may be none.
    """
    places = mask.flatten().nonzero().flatten()
    count = min(round(fraction * len(places)), len(places) - 1)
    # on the generator's device, whatever the user's default is
    order = torch.randperm(len(places), generator=generator, device=generator.device)
    chosen = places[order[:count]]
    held = torch.zeros_like(mask)
    held.view(-1)[chosen] = True
    return mask & ~held, held
