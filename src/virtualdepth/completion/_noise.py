r"""Noises of columns that have few entries each: shrunk to a common one, as far as they are alike.

A sum of squares q of d entries with noise s is distributed as s times chi squared of d. The noises
have a scaled inverse chi squared prior with d_0 degrees of freedom; their logarithms spread by
:math:`\psi'(d_0/2)` beyond the :math:`\psi'(d/2)` of sampling. Smyth, "Linear models and empirical
Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004, section 6.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

Array = NDArray[Any]

# How many entries the common noise counts as before their spread is known.
SHRINKAGE = 5.0
# Spreads of logarithms beyond these are no longer told from none, and from any.
LEAST, LARGEST = 1e-4, 1e3


class Spread(NamedTuple):
    """How the noises of columns are distributed.

    Attributes:
        profile: what they are multiples of, (n,).
        degrees: d_0 of the prior: how many entries the common one counts as.
    """

    profile: Array
    degrees: float


def spread_of_noises(square: Array, counts: Array, profile: Array) -> Spread:
    """Return how far the noises of columns spread about a profile, (n,).

    ``square``, (n,), holds the sums of squares of the residuals of each column.
    """
    seen = counts > 0
    half = counts[seen] / 2
    ratio = square[seen] / (2 * half * profile[seen])
    logs = np.log(np.maximum(ratio, 1e-300)) - digamma(half) + np.log(half)
    excess = np.var(logs, ddof=1) if len(logs) > 1 else 0.0
    excess = float(excess - np.mean(polygamma(1, half)))
    if excess <= LEAST:
        return Spread(profile, np.inf)
    low, high = 1 / LARGEST, 2 / LEAST
    half_degrees = brentq(lambda x: polygamma(1, x) - min(excess, LARGEST), low, high)
    return Spread(profile, 2 * half_degrees)


def shrunk(square: Array, counts: Array, spread: Spread) -> Array:
    """Return the noise of each column, (n,)."""
    profile, prior = spread
    common = profile * (np.sum(square / profile) / counts.sum())
    if prior == np.inf:
        return np.asarray(common)
    return np.asarray((square + prior * common) / (counts + prior))
