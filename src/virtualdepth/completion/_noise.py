r"""Noises of columns that have few entries each: shrunk to a common one, as far as they are alike.

A sum of squares q of d entries with noise s is distributed as s times chi squared of d. The noises
have a scaled inverse chi squared prior with d_0 degrees of freedom; their logarithms spread by
:math:`\psi'(d_0/2)` beyond the :math:`\psi'(d/2)` of sampling. Smyth, "Linear models and empirical
Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004, section 6.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

Array = NDArray[Any]

# How many entries the common noise counts as before their spread is known.
SHRINKAGE = 5.0
# Spreads of logarithms beyond these are no longer told from none, and from any.
LEAST, LARGEST = 1e-4, 1e3


def degrees_of_noises(square: Array, counts: Array) -> float:
    """Return d_0 of the prior: how many entries the common noise of columns counts as.

    ``square``, (n,), holds the sums of squares of the residuals of each column.
    """
    seen = counts > 0
    half = counts[seen] / 2
    logs = np.log(np.maximum(square[seen] / (2 * half), 1e-300)) - digamma(half) + np.log(half)
    excess = np.var(logs, ddof=1) if len(logs) > 1 else 0.0
    excess = float(excess - np.mean(polygamma(1, half)))
    if excess <= LEAST:
        return np.inf
    low, high = 1 / LARGEST, 2 / LEAST
    half_degrees = brentq(lambda x: polygamma(1, x) - min(excess, LARGEST), low, high)
    return float(2 * half_degrees)


def shrunk(square: Array, counts: Array, degrees: float) -> Array:
    """Return the noise of each column, (n,)."""
    common = np.sum(square) / counts.sum()
    if degrees == np.inf:
        return np.full(len(counts), common)
    return np.asarray((square + degrees * common) / (counts + degrees))
