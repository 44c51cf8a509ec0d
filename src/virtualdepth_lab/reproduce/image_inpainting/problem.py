"""The image, of which a fifth of the pixels is known."""

import numpy as np
import torch
from matplotlib.image import imread
from torch import Tensor

from virtualdepth.data import find_file
from virtualdepth.runs import UnusableError

SIDE = 512  # pixels of camera.png
SHARE = 0.2


def load_image(data_dir: str | None, size: int) -> Tensor:
    """Load images/camera.png as grey values in [0, 1], averaged down to (size, size), float64.

    ``size`` divides 512. ``data_dir`` is the environment variable VIRTUALDEPTH_DATA by default.
    """
    path = find_file(data_dir, "images/camera.png", source="512 x 512, grey")
    try:
        pixels = imread(path)
    except (OSError, SyntaxError) as error:  # Pillow raises both
        raise UnusableError(
            "data_dir", f"expected a PNG of 512 x 512 grey pixels but got {path}: {error}"
        ) from error
    # matplotlib does not scale every bit depth to 1
    if pixels.shape != (SIDE, SIDE) or pixels.max() > 1:
        raise UnusableError(
            "data_dir",
            "expected 512 x 512 grey pixels between 0 and 1 but got an array of shape "
            f"{pixels.shape} with values up to {pixels.max():g} from {path}",
        )
    image = torch.from_numpy(np.asarray(pixels, dtype=np.float64).copy())
    blocks = image.view(size, SIDE // size, size, SIDE // size)
    return blocks.mean((1, 3))


def known_pixels(size: int, seed: int) -> Tensor:
    """Draw which pixels are known: ones and zeros, (size, size), float64."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(size, size, generator=generator) < SHARE).double()
