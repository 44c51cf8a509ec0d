"""The whole matrices that the flow works on, and which entries it does not fit."""

from typing import NamedTuple

import torch
from torch import Tensor


class Observations(NamedTuple):
    """A matrix of which some entries are known.

    Attributes:
        values: (m, n), 0 where nothing was observed.
        mask: (m, n), boolean, true where observed.
    """

    values: Tensor
    mask: Tensor


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
