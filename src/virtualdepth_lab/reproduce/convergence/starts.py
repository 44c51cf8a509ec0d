"""How often random balanced starts satisfy Theorem 1, and how far starts may be from zero.

Source: arXiv 1810.02281, Theorem 2 (output dimension 1) and section 5 (experiments).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import torch
from scipy.integrate import quad
from scipy.stats import binomtest, chi2, norm
from torch import Tensor

from virtualdepth.maths import balanced_factors, gaussian_start
from virtualdepth.theory import convergence_certificate
from virtualdepth_lab.reproduce.convergence.descent import descend, step_of
from virtualdepth_lab.reproduce.result import Progress, Record

DEPTH = 3
# standard deviation of an entry of W(0), in units of ||Phi|| / d, and then of ||Phi|| / sqrt(d)
BY_DIMENSION, BY_ROOT = (0.1, 0.5, 1.0), (0.5,)
HIDDEN = 16
EXCESS = 1e-5
RATES = tuple(10 ** (k / 4) for k in range(-12, 1))
DEVIATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)


def probability_rows(count: int, seed: int) -> Iterator[Record]:
    """Estimate how often a random balanced start satisfies the theorem, output dimension 1.

    Phi is the first unit vector: Gaussian starts know no direction.

    Args:
        count: of starts.
        seed: of the starts.

    Yields:
        A row for each dimension and standard deviation: share, 95 % interval, exact value.
    """
    generator = torch.Generator().manual_seed(seed)
    for dimension in (20, 100):
        target = torch.zeros(1, dimension, dtype=torch.float64)
        target[0, 0] = 1
        units = [(f"{a:g} / d", a / dimension) for a in BY_DIMENSION]
        units += [(f"{a:g} / sqrt(d)", a / math.sqrt(dimension)) for a in BY_ROOT]
        for name, deviation in units:
            starts = gaussian_start(
                target.expand(count, -1, -1), deviation * math.sqrt(dimension), generator
            )
            certified = torch.tensor([_certified(start, target) for start in starts])
            held = int(certified.sum())
            interval = binomtest(held, count).proportion_ci()
            converged = _converges(starts, target)
            yield {
                "part": "Theorem 2",
                "depth": DEPTH,
                "dimension": dimension,
                "deviation": name,
                "share": held / count,
                "from": interval.low,
                "to": interval.high,
                "exact": margin_probability(dimension, deviation),
                "certified": held,
                "certified_converged": int((converged & certified).sum()),
                "others_converged": int((converged & ~certified).sum()),
            }


def _certified(start: Tensor, target: Tensor) -> bool:
    return convergence_certificate(balanced_factors(start, DEPTH), target, DEPTH).holds


def _converges(starts: Tensor, target: Tensor, lr: float = 0.2, most: int = 20_000) -> Tensor:
    # Phi and W as columns: the chain rule then takes products of matrices and vectors alone
    path = descend(balanced_factors(starts.mT, DEPTH), target.mT, lr)
    for _ in range(most):
        excess = (next(path)[-1] - target.mT).square().sum((-2, -1)) / 2
        if bool((excess <= EXCESS).all()):
            break
    return excess <= EXCESS


def margin_probability(dimension: int, deviation: float) -> float:
    r"""Compute the probability that a Gaussian w has a deficiency margin, :math:`\|w-e_1\| < 1`.

    With :math:`w = s (g, \dots)` that is :math:`\chi^2_{d-1} < 2 g / s - g^2`.

    Args:
        dimension: d.
        deviation: s, of every entry.

    Returns:
        A probability.

    >>> margin_probability(20, 1e-6)
    0.500
    """

    def density(g: float) -> float:
        return float(norm.pdf(g) * chi2.cdf(2 * g / deviation - g * g, dimension - 1))

    return float(quad(density, 0, min(2 / deviation, 12))[0])


def layerwise(
    target: Tensor, depth: int, deviation: float, generator: torch.Generator
) -> list[Tensor]:
    """Draw Gaussian layers whose product has entries of a given standard deviation.

    Args:
        target: Phi as a column, (d, 1).
        depth: number of layers N.
        deviation: of an entry of the product.
        generator: where the random numbers come from.

    Returns:
        [W_1, ..., W_N], hidden width 16.
    """
    layer = (deviation / HIDDEN ** ((depth - 1) / 2)) ** (1 / depth)
    sizes = [1, *[HIDDEN] * (depth - 1), len(target)]
    return [
        layer * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        for columns, rows in pairwise(sizes)
    ]


def balanced(
    target: Tensor, depth: int, deviation: float, generator: torch.Generator
) -> list[Tensor]:
    """Draw a Gaussian product of a given standard deviation and factor it in balance.

    The hidden width is 1: wider balanced layers move alike.

    Args:
        target: Phi as a column, (d, 1).
        depth: number of layers N.
        deviation: of an entry of the product.
        generator: where the random numbers come from.

    Returns:
        [W_1, ..., W_N].
    """
    product = deviation * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return balanced_factors(product, depth)


def deviation_rows(
    target: Tensor,
    seeds: Sequence[int],
    progress: Progress,
    *,
    most: int = 20_000,
    deviations: Sequence[float] = DEVIATIONS,
) -> Iterator[Record]:
    """Count iterations to convergence against the standard deviation of the start.

    Args:
        target: Phi as a column, (d, 1).
        seeds: of the starts.
        progress: told what begins.
        most: iterations to give up after.
        deviations: of an entry of W(0).

    Yields:
        A row for each depth, kind of start and standard deviation: the median over seeds of
        iterations at the best learning rate of the grid, None where most seeds fail.
    """
    for depth in (3, 8):
        for kind, draw in (("layer-wise", layerwise), ("balanced", balanced)):
            progress(f"depth {depth}, {kind} starts")
            groups = [
                draw(target, depth, deviation, torch.Generator().manual_seed(seed))
                for deviation in deviations
                for seed in seeds
            ]
            counts = iterations(groups, target, most)
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
    groups: Sequence[Sequence[Tensor]], target: Tensor, most: int
) -> list[tuple[int, float] | None]:
    """Count iterations to an excess loss of 1e-5, at the best learning rate of the grid.

    Args:
        groups: starts, each a list of factors.
        target: Phi as a column, (d, 1).
        most: iterations to give up after.

    Returns:
        For each start, iterations and learning rate of the run that is first; None if none is.
    """
    found: list[tuple[int, float] | None] = [None] * len(groups)
    owner = torch.arange(len(groups)).repeat_interleave(len(RATES))
    rates = torch.tensor(RATES, dtype=torch.float64).repeat(len(groups)).view(-1, 1, 1)
    factors = [torch.stack(layers)[owner] for layers in zip(*groups, strict=True)]
    for step in range(most + 1):
        products, after = step_of(factors, target, rates)
        losses = (products[-1] - target).square().sum((-2, -1)) / 2
        for run in (losses <= EXCESS).nonzero().flatten().tolist():
            if found[owner[run]] is None:
                found[owner[run]] = step, float(rates[run])
        factors = after
        if step % 100 == 0:  # leave out what diverged, and what a faster run has overtaken
            open_ = torch.tensor([end is None for end in found])
            keep = (losses.isfinite() & open_[owner]).nonzero().flatten()
            owner, rates, factors = owner[keep], rates[keep], [f[keep] for f in factors]
            if len(keep) == 0:
                break
    return found
