"""The sizes of each structure by their literal formulas in numpy."""

import numpy as np
from torch import Tensor

SHAPES = {
    "matrix": (4, 6),
    "rows": (4, 6),
    "columns": (4, 6),
    "diagonal": (7,),
    "circulant": (7,),
    "circulant of channels": (2, 3, 5),
}


def literal_sizes(weight: Tensor, structure: str) -> np.ndarray:
    """One number for each block, or several, in the order of the blocks."""
    array = weight.detach().double().numpy()
    match structure.split()[0]:
        case "matrix":
            return np.linalg.svd(array, compute_uv=False)
        case "rows":
            return np.sqrt((array**2).sum(-1))
        case "columns":
            return np.sqrt((array**2).sum(-2))
        case "diagonal":
            return np.abs(array).ravel()
    k = array.shape[-1]
    waves = np.exp(-2j * np.pi * np.outer(np.arange(k // 2 + 1), np.arange(k)) / k)
    if array.ndim < 3:
        return np.abs(array @ waves.T).ravel()
    blocks = np.einsum("mnk,fk->fmn", array, waves)
    return np.linalg.svd(blocks, compute_uv=False).ravel()
