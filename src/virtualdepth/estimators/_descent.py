"""Train one matrix on observed entries: first the flow from a small start, then EndToEndSGD.

Along the flow a small start grows into a few large singular values, and later steps do not repair
what this growth does wrong. So an integrator with error control follows the flow until the loss is
a hundredth of the data; on balanced factors, at integer depths, it needs no SVD. What is left is a
stiff tail, which ``step_scale="auto"`` ends in few steps. At real and infinite depth each gradient
of the flow would need an SVD, and ``step_scale="auto"`` does it all.
"""

import math
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from virtualdepth.optim import EndToEndSGD, MiniBatchWarning
from virtualdepth.theory import integrate_flow

# The loss, of data of mean square 1, at which the integrator hands over.
GROWN = 0.01
# The held-out error need not fall at once: singular values grow one after the other, and between
# two of them both errors stand still. The best is past where the training error has fallen on by
# this factor, and the held-out error has not improved.
OVERFIT = 0.01


class Problem(NamedTuple):
    """A matrix of mean square about 1, and where to begin.

    Attributes:
        values: (m, n).
        fitted: (m, n), true for the entries that W is fitted to; not empty.
        held: (m, n), true for the entries that W is judged on; None for no early stopping.
        start: W(0), (m, n).
    """

    values: Tensor
    fitted: Tensor
    held: Tensor | None
    start: Tensor


class _PastBestError(Exception):
    """Ends a descent from within the objective."""


@dataclass(kw_only=True)
class Descent:
    """The objective of a descent, and its record.

    Attributes:
        problem: what to fit.
        bar: the progress bar, which counts evaluations.
        weight: the last W; with entries held out, the best.
        loss: its training loss.
        held_loss: the mean squared error of the entries held out, of the best W.
        losses: the training loss of each W evaluated.
        held_losses: the mean squared errors of the entries held out, if any.
        finished: whether a loss ended the descent, not the number of evaluations.
    """

    problem: Problem
    bar: "tqdm[None]"
    weight: Tensor
    loss: float = math.inf
    held_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)
    finished: bool = False

    def evaluate(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient, (m, n), and the loss: the mean squared error of fitted entries."""
        values, fitted, held, _ = self.problem
        difference = weight - values
        residual = torch.where(fitted, difference, 0.0)
        loss = residual.square().sum() / fitted.sum()
        self.losses.append(float(loss))
        if held is not None:
            self.held_losses.append(float(difference[held].square().mean()))
        if held is None or self.held_losses[-1] < self.held_loss:
            self.weight, self.loss = weight, self.losses[-1]
            self.held_loss = self.held_losses[-1] if self.held_losses else math.inf
        elif self.losses[-1] < OVERFIT * self.loss:
            raise _PastBestError
        self.bar.update()
        self.bar.set_postfix_str(f"loss {self.losses[-1]:.1e}", refresh=False)
        return residual * (2 / fitted.sum()), loss


def fit_observed(
    problem: Problem, *, depth: float, tol: float, max_iter: int, bar: "tqdm[None]"
) -> Descent:
    """Descend on the rows and columns that have an entry to fit; W is 0 in the others."""
    values, fitted, held, start = problem
    # A row without an entry has no gradient of its own, yet it would grow with its columns'
    # singular vectors, into meaningless numbers. Infinite depth needs a square and keeps it.
    rows, columns = fitted.any(1), fitted.any(0)
    if math.isinf(depth):
        rows, columns = torch.ones_like(rows), torch.ones_like(columns)
    block = torch.meshgrid(rows.nonzero()[:, 0], columns.nonzero()[:, 0], indexing="ij")
    inner = Problem(
        values[block], fitted[block], None if held is None else held[block], start[block]
    )
    found = _descend(inner, depth=depth, tol=tol, max_iter=max_iter, bar=bar)
    weight = torch.zeros_like(start)
    weight[block] = found.weight
    weight[~fitted.any(1)] = 0
    weight[:, ~fitted.any(0)] = 0
    found.weight = weight
    return found


@torch.no_grad()
def _descend(
    problem: Problem, *, depth: float, tol: float, max_iter: int, bar: "tqdm[None]"
) -> Descent:
    """Minimise the loss until it is at most ``tol``, or the held-out error is past its best."""
    seen = Descent(problem=problem, bar=bar, weight=problem.start)
    weight = problem.start
    try:
        grad, loss = seen.evaluate(weight)
        grown = max(GROWN, tol)
        if depth % 1 == 0 and loss > grown and max_iter > 1:  # inf % 1 is NaN
            weight = integrate_flow(
                seen.evaluate, weight, depth, stop_loss=grown, max_evaluations=max_iter - 1
            ).weight
            grad, loss = seen.evaluate(weight)
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = EndToEndSGD([parameter], depth=depth, step_scale="auto")
        while loss > tol and len(seen.losses) < max_iter:
            parameter.grad = grad
            with warnings.catch_warnings():
                # each gradient is of all entries, though the optimizer may guess otherwise
                warnings.simplefilter("ignore", MiniBatchWarning)
                optimizer.step(partial(float, loss))
            grad, loss = seen.evaluate(parameter.detach().clone())
        seen.finished = bool(loss <= tol)
    except _PastBestError:
        seen.finished = True
    return seen
