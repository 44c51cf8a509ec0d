"""How far from zero a start may be: iterations to convergence against its standard deviation.

Source: arXiv 1810.02281, section 5.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import median

import torch
from torch import Tensor

from virtualdepth.maths import partial_products
from virtualdepth_lab.reproduce.convergence.problem import EXCESS, balanced, layerwise
from virtualdepth_lab.reproduce.network import layer_step
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.search import first_to_reach, quarter_decade

RATES = tuple(map(quarter_decade, range(-12, 1)))
STARTS = {"layer-wise": layerwise, "balanced": balanced}
DEVIATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def deviation_rows(
    target: Tensor,
    seeds: Sequence[int],
    depth: int,
    kind: str,
    *,
    most: int = 20_000,
    deviations: Sequence[float] = DEVIATIONS,
) -> Iterator[Record]:
    """Yield a row for each standard deviation of an entry of W(0), of one depth and kind of start.

    It holds the median over seeds of the iterations at the best learning rate of the grid, None if
    most seeds need more than ``most``.
    """
    starts = [
        STARTS[kind](target, depth, deviation, torch.Generator().manual_seed(seed))
        for deviation in deviations
        for seed in seeds
    ]
    counts = iterations(starts, target, most)
    for index, deviation in enumerate(deviations):
        part = counts[index * len(seeds) : (index + 1) * len(seeds)]
        ends = [(math.inf, None) if end is None else end for end in part]
        finite = [count for count, _ in ends if count < math.inf]
        middle = median(count for count, _ in ends)
        yield {
            "part": "section 5",
            "depth": depth,
            "start": kind,
            "deviation": deviation,
            "steps": middle if middle < math.inf else None,
            "from": min(finite, default=None),
            "to": max(finite, default=None),
            "converged": f"{len(finite)} of {len(part)}",
            "inside": not {rate for _, rate in ends} & {RATES[0], RATES[-1]},
        }


def iterations(
    starts: Sequence[Sequence[Tensor]], target: Tensor, most: int
) -> list[tuple[int, float] | None]:
    """Return iterations to an excess loss of 1e-5, and the learning rate of the grid, by start.

    A start is a list of factors. None stands for no convergence within ``most`` iterations.
    """
    return first_to_reach(_losses(starts, target, most), EXCESS, RATES)


def _losses(starts: Sequence[Sequence[Tensor]], target: Tensor, most: int) -> Iterator[Tensor]:
    """Yield the losses at each iteration, (starts, rates); inf for runs that were left out."""
    run = torch.arange(len(starts) * len(RATES))
    rates = torch.tensor(RATES, dtype=torch.float64).repeat(len(starts)).view(-1, 1, 1)
    factors = [torch.stack(layers)[run // len(RATES)] for layers in zip(*starts, strict=True)]
    converged = torch.zeros(len(starts), dtype=torch.bool)
    table = torch.full(run.shape, torch.inf, dtype=torch.float64)
    for step in range(most + 1):
        products = partial_products(factors)
        grads = products[-1] - target
        losses = grads.square().sum((-2, -1)) / 2
        yield table.scatter(0, run, losses).view(len(starts), -1)
        converged[run[losses <= EXCESS] // len(RATES)] = True
        factors = layer_step(factors, products, grads, rates)
        if step % 100 == 0:  # leave out what diverged, and what a faster run has overtaken
            keep = losses.isfinite() & ~converged[run // len(RATES)]
            if not keep.any():
                return
            run, rates, factors = run[keep], rates[keep], [f[keep] for f in factors]
