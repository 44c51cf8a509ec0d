"""method="flow": one matrix trained from a small start, as today's theory has it."""

import numpy as np
import torch

from virtualdepth.completion import Prior
from virtualdepth.estimators._entries import Table
from virtualdepth.estimators._hold_out import Observations
from virtualdepth.estimators._learned import Learned, whole_table
from virtualdepth.estimators._options import Options
from virtualdepth.estimators._training import train
from virtualdepth.maths import effective_rank_of_spectrum


def fit_flow(table: Table, options: Options, previous: Learned | None, seed: int) -> Learned:
    """Train a matrix on a table, the last time from a previous completion if there is one."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    start = None if previous is None else _start(previous, table.entries.shape)
    training = train(_whole(table), options, start, generator)
    u, sigma, vh = np.linalg.svd(training.weight.double().numpy(), full_matrices=False)
    n = len(training.centre)
    second = np.diag(sigma**2 / training.rows)
    return Learned(
        centre=training.centre.double().numpy(),
        left=u * sigma,
        right=vh.T,
        left_covariance=None,
        right_covariance=None,
        noise=np.full(n, training.noise_variance),
        error=np.zeros(n),
        prior=Prior(np.zeros(len(sigma)), second),
        rank=round(float(effective_rank_of_spectrum(torch.from_numpy(sigma)))),
        exact=False,
        unique=None,
        decision={"method": f"flow of depth {options.depth:g}", "centred": options.centre},
        history=training.history,
        iterations=training.evaluations,
    )


def _start(previous: Learned, shape: tuple[int, int]) -> torch.Tensor:
    last = (len(previous.left), len(previous.right))
    if last != shape:
        raise ValueError(
            f"X: expected the shape {last} of the last fit, which warm_start=True begins from, "
            f"but got {shape}; set warm_start=False"
        )
    return torch.from_numpy(whole_table(previous))


def _whole(table: Table) -> Observations:
    values, mask = table.entries.whole()
    return Observations(torch.from_numpy(values.astype(table.dtype)), torch.from_numpy(mask))
