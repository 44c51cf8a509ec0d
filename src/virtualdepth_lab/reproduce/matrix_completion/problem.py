"""Which completions are solved, from which start, and how far.

Source: arXiv 1905.13655, section 2 and its appendix on the experiments.
"""

from torch import Tensor

from virtualdepth.data import small_start
from virtualdepth_lab.reproduce.result import Record

SCALE = 1e-3


def settings(quick: bool) -> Record:
    """Return size, rank and number observed of each problem, and how each is trained.

    On the last problem the ends are compared, at the depths in "compared".
    """
    if quick:
        chosen = {"problems": [[20, 1, 200]], "compared": [2, 3], "stop_loss": 1e-4}
    else:
        problems = [[60, 3, 1000], [100, 5, 5000], [100, 5, 2000]]
        chosen = {"problems": problems, "compared": [2, 3, 4], "stop_loss": 1e-6}
    return chosen | {"scale": SCALE, "lr": 1e-3, "cap": 0.05, "dtype": "float32"}


def start_of(size: int, depth: float, seed: int) -> Tensor:
    """Draw W(0) of the problem of this seed, (size, size), float64."""
    return small_start(size, depth, SCALE, seed + 1)
