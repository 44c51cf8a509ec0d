"""Random matrices to start from."""

import torch
from torch import Tensor


def gaussian_start(like: Tensor, scale: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw independent Gaussians of deviation ``scale / sqrt(n)``, shaped as ``like``, (..., n)."""
    # so the outputs have root mean square `scale` for inputs of unit variance
    device = like.device if generator is None else generator.device
    drawn = torch.empty(like.shape, dtype=like.dtype, device=device)
    drawn.normal_(0, scale / like.shape[-1] ** 0.5, generator=generator)
    return drawn.to(like.device)
