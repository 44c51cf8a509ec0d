"""Completion of a matrix from some of its entries: pure functions of these (level 2)."""

from virtualdepth.completion._bayes import Posterior, Prior, entry_variances, variational_bayes
from virtualdepth.completion._blocks import factored_svd
from virtualdepth.completion._choice import Factors, Method, Trial
from virtualdepth.completion._entries import Entries, inner_products, observe
from virtualdepth.completion._solution import Solution
from virtualdepth.completion._table import Completed, complete_table

__all__ = [
    "Completed",
    "Entries",
    "Factors",
    "Method",
    "Posterior",
    "Prior",
    "Solution",
    "Trial",
    "complete_table",
    "entry_variances",
    "factored_svd",
    "inner_products",
    "observe",
    "variational_bayes",
]
