"""method="auto": the completion of virtualdepth.completion, and the flow among its methods."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from virtualdepth.completion import Completed, Entries, Factors, Method, Trial, complete_table
from virtualdepth.estimators._descent import Descent, Problem, fit_observed
from virtualdepth.estimators._entries import Table
from virtualdepth.estimators._learned import Learned
from virtualdepth.maths import gaussian_start

Array = NDArray[Any]

# The flow works on whole matrices; beyond this many numbers it takes too long to be compared.
FLOW_LIMIT = 100_000
# A larger start is quicker, and the held-out error ends the descent long before it matters.
FLOW_START = 1e-3
FLOW_STEPS = 2_000
FLOW_DEPTH = 2


def fit_automatically(table: Table, seed: int, verbose: bool) -> tuple[Learned, bool]:
    """Complete a table; return also whether Ctrl-C ended it."""
    entries = table.entries
    small = math.prod(entries.shape) <= FLOW_LIMIT
    others = {f"flow of depth {FLOW_DEPTH}": _flow_method(seed)} if small else {}
    with tqdm(desc="completion", unit="step", disable=not verbose) as bar:

        def watch(what: str, left: Array, right: Array) -> None:
            bar.set_postfix_str(f"{what}, rank {left.shape[1]}", refresh=False)
            bar.update()

        completed = complete_table(
            entries,
            precision=float(np.finfo(table.dtype).eps) / 2,
            seed=seed,
            others=others,
            watch=watch,
        )
        bar.total = bar.n  # what it would be was not known before
        bar.refresh()
    return _learned(completed), completed.interrupted


def _learned(completed: Completed) -> Learned:
    units, solution, _ = completed
    history = {name: np.asarray(numbers) for name, numbers in solution.history.items()}
    return Learned(
        centre=units.offset,
        left=solution.left,
        right=completed.right,
        left_covariance=solution.left_covariance,
        right_covariance=completed.right_covariance,
        noise=completed.noise,
        error=completed.error,
        prior=completed.prior(),
        rank=solution.rank,
        exact=solution.exact,
        unique=solution.unique,
        decision={
            "method": solution.method,
            "centred": bool(units.offset.any()),
            "scale": units.scale,
            "held_out_errors": dict(solution.errors),
            "weights": dict(solution.weights),
        },
        history=history,
        iterations=sum(len(history.get(name, ())) for name in ("eps", "noise")),
    )


def _flow_method(seed: int) -> Method:
    """The gradient flow from a small start, stopped where its held-out error is smallest."""

    def method(fit: Entries, judge: Entries) -> Trial:
        problem = _problem(fit, judge, seed)
        found = _descend(problem, tol=1e-6)

        def refit(entries: Entries) -> Factors:
            weight = _descend(_problem(entries, None, seed), tol=found.loss).weight
            u, sigma, vh = np.linalg.svd(weight.numpy(), full_matrices=False)
            return Factors(u * sigma, vh.T)

        return Trial(found.weight.numpy()[judge.rows, judge.columns], refit)

    return method


def _problem(fit: Entries, judge: Entries | None, seed: int) -> Problem:
    values, fitted = fit.whole()
    held = None
    if judge is not None:
        more, places = judge.whole()
        values += more
        held = torch.from_numpy(places)
    data = torch.from_numpy(values)
    generator = torch.Generator()
    generator.manual_seed(seed)
    start = gaussian_start(data, FLOW_START, generator)
    return Problem(data, torch.from_numpy(fitted), held, start)


def _descend(problem: Problem, tol: float) -> Descent:
    with tqdm(disable=True) as bar:
        return fit_observed(problem, depth=FLOW_DEPTH, tol=tol, max_iter=FLOW_STEPS, bar=bar)
