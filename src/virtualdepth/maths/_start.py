"""Random matrices to start from."""

import torch
from torch import Tensor


def gaussian_start(like: Tensor, scale: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw a matrix of independent Gaussians of standard deviation ``scale / sqrt(n)``.

    Its outputs have root mean square ``scale`` for inputs of unit variance.

    Args:
        like: (..., m, n), gives shape, dtype and device.
        scale: > 0.
        generator: where the random numbers come from; default torch's global generator.

    Returns:
        (..., m, n).

    >>> start = gaussian_start(torch.empty(200, 100), 0.5, torch.Generator().manual_seed(0))
    >>> start.std()  # 0.5 / sqrt(100)
    tensor(0.05)
    """
    device = like.device if generator is None else generator.device
    drawn = torch.empty(like.shape, dtype=like.dtype, device=device)
    drawn.normal_(0, scale / like.shape[-1] ** 0.5, generator=generator)
    return drawn.to(like.device)
