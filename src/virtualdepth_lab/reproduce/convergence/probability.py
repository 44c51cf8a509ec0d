"""How often a random balanced start satisfies Theorem 1, for output dimension 1.

Source: arXiv 1810.02281, Theorem 2.
"""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from scipy.integrate import quad
from scipy.stats import binomtest, chi2, norm
from torch import Tensor

from virtualdepth.maths import balanced_factors, gaussian_start
from virtualdepth.theory import convergence_certificate
from virtualdepth_lab.reproduce.convergence.problem import EXCESS
from virtualdepth_lab.reproduce.convergence.theorem import descend_to
from virtualdepth_lab.reproduce.result import Record

DEPTH = 3
# standard deviation of an entry of W(0), in units of ||Phi|| / d, and then of ||Phi|| / sqrt(d)
BY_DIMENSION, BY_ROOT = (0.1, 0.5, 1.0), (0.5,)


def probability_rows(count: int, seed: int) -> Iterator[Record]:
    """Yield, by dimension and deviation, the share of ``count`` starts that satisfy the theorem.

    Beside it stand the 95 % interval and the exact value. Phi is the first unit vector: Gaussian
    starts prefer no direction.
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
    # Phi and W as columns: the chain rule then multiplies matrices by vectors only
    path = descend_to(balanced_factors(starts.mT, DEPTH), target.mT, lr)
    for weights in islice(path, most):
        excess = (weights - target.mT).square().sum((-2, -1)) / 2
        if bool((excess <= EXCESS).all()):
            break
    return excess <= EXCESS


def margin_probability(dimension: int, deviation: float) -> float:
    r"""Return the probability that a Gaussian w has a deficiency margin, :math:`\|w-e_1\| < 1`.

    With :math:`w = s (g, \dots)` that is :math:`\chi^2_{d-1} < 2 g / s - g^2`; ``dimension`` is d,
    and ``deviation`` is s, that of every entry.

    >>> margin_probability(20, 1e-6)
    0.500
    """

    def density(g: float) -> float:
        return float(norm.pdf(g) * chi2.cdf(2 * g / deviation - g * g, dimension - 1))

    return float(quad(density, 0, min(2 / deviation, 12))[0])
