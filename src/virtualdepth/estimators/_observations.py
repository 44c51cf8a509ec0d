"""Which entries of a matrix are observed, and which of them are held out."""

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
    """Turn a masked array into one with NaN, and return all else as it is."""
    if isinstance(data, np.ma.MaskedArray):
        # scikit-learn's conversion would drop the mask. Integers have no NaN; what cannot be a
        # number is refused later
        return np.ma.filled(data if data.dtype.kind in "fcO" else data.astype(float), np.nan)
    return data


def observations(data: Any) -> Observations:
    """Read a float array, NaN where missing, or a CSR matrix whose stored entries are known."""
    if issparse(data):
        stored = data.copy()
        stored.data = np.ones_like(stored.data)
        # toarray adds up duplicates
        values, mask = data.toarray(), stored.toarray() > 0
        mask &= ~np.isnan(values)
    else:
        values, mask = data, ~np.isnan(data)
    known = np.where(mask, values, values.dtype.type(0))
    # numpy would keep the order of an array that is stored by columns
    return Observations(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (known, mask)))


def check_observed(mask: Tensor) -> None:
    """Refuse a mask, (m, n), without an observed entry, or with a column without one."""
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
    """Split the observed entries at random into two masks, (m, n): to fit, and held out."""
    places = mask.flatten().nonzero().flatten()
    count = min(round(fraction * len(places)), len(places) - 1)  # one at least is left to fit
    # on the generator's device, whatever the user's default is
    order = torch.randperm(len(places), generator=generator, device=generator.device)
    chosen = places[order[:count]]
    held = torch.zeros_like(mask)
    held.view(-1)[chosen] = True
    return mask & ~held, held
