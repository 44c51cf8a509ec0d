"""Loaders and seeded problems for the commands (level 2)."""

from virtualdepth.data._completion import (
    Completion,
    gaussian_layers,
    low_rank_problem,
    small_start,
)
from virtualdepth.data._csv import read_csv
from virtualdepth.data._files import DATA_VARIABLE, find_file
from virtualdepth.data._idx import load_mnist, read_idx
from virtualdepth.data._preparation import standardise, whiten
from virtualdepth.data._problems import Problem, load_ethanol, load_problem

__all__ = [
    "DATA_VARIABLE",
    "Completion",
    "Problem",
    "find_file",
    "gaussian_layers",
    "load_ethanol",
    "load_mnist",
    "load_problem",
    "low_rank_problem",
    "read_csv",
    "read_idx",
    "small_start",
    "standardise",
    "whiten",
]
