"""The convex programmes that compete: the least sum of block norms, and reweighted ones.

Sources: Candes, Wakin, Boyd 2008, arXiv 0711.1612 (reweighting).
"""

from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

REWEIGHTED = 4  # times, as in arXiv 0711.1612
DAMPING = 0.1  # epsilon there, for blocks of norm up to 1


def least_block_norms(maps: Tensor, values: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    r"""Minimise :math:`\sum_b w_b \|x_b\|` over A x = y: with w = 1, and reweighted four times.

    Each time :math:`w_b = 1 / (\|x_b\| + 0.1)` of the solution before. ``maps`` is A,
    (measurements, blocks * numbers of a block). Returns both solutions, (blocks, numbers).

    >>> maps = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    >>> least_block_norms(maps, torch.tensor([2.0]), 2)[0].round(decimals=6)
    tensor([[1.],
            [0.]], dtype=torch.float64)
    """
    size = maps.shape[1] // blocks
    programme: Any = cp  # whose functions are not all typed
    unknown = cp.Variable((blocks, size))
    weights = cp.Parameter(blocks, nonneg=True)
    problem = cp.Problem(
        cp.Minimize(weights @ programme.norm(unknown, 2, axis=1)),
        [maps.numpy() @ programme.vec(unknown, order="C") == values.numpy()],
    )
    weights.value = np.ones(blocks)
    found = []
    for _ in range(REWEIGHTED + 1):
        problem.solve(solver=cp.CLARABEL)  # type: ignore[no-untyped-call]
        found.append(torch.from_numpy(np.array(unknown.value, dtype=np.float64)))
        weights.value = 1 / (found[-1].norm(dim=1).numpy() + DAMPING)
    return found[0], found[-1]
