"""One matrix, trained on observed entries: the flow from a small start, then EndToEndSGD.

A small start grows into a few large singular values along the gradient flow; what the growth does
wrong, nothing mends. At integer depths an integrator follows it on balanced factors, with error
control and without an SVD, until the loss is a hundredth of the data. The rest is a stiff tail,
which ``step_scale="auto"`` ends in few steps. At real and infinite depth, where each gradient of
the flow would take an SVD, it does all.
"""

import math
import warnings
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from virtualdepth.optim import EndToEndSGD
from virtualdepth.theory import integrate_flow

GROWN = 0.01
# The held-out error need not fall at once: singular values grow one after the other, and between
# two of them both errors stand still. What shows that the best is past is a training error that
# has gone on falling, by this factor, since.
OVERFIT = 0.01


class _PastBestError(Exception):
    """Ends a descent from within the objective."""


@dataclass(kw_only=True)
class Descent:
    """The objective of a descent, and what was seen of it.

    Attributes:
        values: what to fit, (m, n).
        fitted: (m, n), true where W is to fit; not empty.
        held: (m, n), true where W is to be judged; None for not at all.
        bar: told of each evaluation.
        weight: the last W.
        loss: the training loss of the last W; with entries held out, of the best.
        held_loss: the mean squared error of the entries held out, of the best.
        losses: training losses, of each W evaluated.
        held_losses: those of the entries held out, if any.
        finished: whether a loss decided that it ended, and not the number of evaluations.
    """

    values: Tensor
    fitted: Tensor
    held: Tensor | None
    bar: "tqdm[None]"
    weight: Tensor
    loss: float = math.inf
    held_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)
    finished: bool = False

    def evaluate(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and loss, the mean squared error of the fitted entries.

        Args:
            weight: W, (m, n).

        Returns:
            (m, n) and a scalar.

        Raises:
            _PastBestError: if the training loss fell on while the held-out error did not.
        """
        difference = weight - self.values
        residual = torch.where(self.fitted, difference, 0.0)
        loss = residual.square().sum() / self.fitted.sum()
        self.weight = weight
        self.losses.append(float(loss))
        if self.held is not None:
            self.held_losses.append(float(difference[self.held].square().mean()))
        if self.held is None or self.held_losses[-1] < self.held_loss:
            self.loss = self.losses[-1]
            self.held_loss = self.held_losses[-1] if self.held_losses else math.inf
        elif self.losses[-1] < OVERFIT * self.loss:
            raise _PastBestError
        self.bar.update()
        self.bar.set_postfix_str(f"loss {self.losses[-1]:.1e}", refresh=False)
        return residual * (2 / self.fitted.sum()), loss


@torch.no_grad()
def descend(
    values: Tensor,
    fitted: Tensor,
    held: Tensor | None,
    start: Tensor,
    *,
    depth: float,
    tol: float,
    max_iter: int,
    bar: "tqdm[None]",
) -> Descent:
    """Minimise the mean squared error of the fitted entries, from a small start.

    Args:
        values: (m, n), of mean square about 1.
        fitted: (m, n), true where W is to fit; not empty.
        held: (m, n), true where W is to be judged, or None.
        start: W(0), (m, n).
        depth: N > 1.
        tol: end as soon as the loss is no larger; or where the held-out error is past its best.
        max_iter: end after about as many evaluations of the gradient.
        bar: told of each evaluation.

    Returns:
        The end.
    """
    seen = Descent(values=values, fitted=fitted, held=held, bar=bar, weight=start)
    weight = start
    try:
        grad, loss = seen.evaluate(weight)
        grown = max(GROWN, tol)
        if depth % 1 == 0 and loss > grown and max_iter > 1:  # inf % 1 is NaN
            weight = integrate_flow(
                seen.evaluate, start, depth, stop_loss=grown, max_evaluations=max_iter - 1
            ).weight
            grad, loss = seen.evaluate(weight)
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = EndToEndSGD([parameter], depth=depth, step_scale="auto")
        while loss > tol and len(seen.losses) < max_iter:
            parameter.grad = grad
            with warnings.catch_warnings():
                # every entry is in every gradient, whatever the steps look like
                warnings.filterwarnings("ignore", ".* as on mini-batches")
                optimizer.step(partial(float, loss))
            grad, loss = seen.evaluate(parameter.detach().clone())
        seen.finished = bool(loss <= tol)
    except _PastBestError:
        seen.finished = True
    return seen


def fit_observed(
    values: Tensor,
    fitted: Tensor,
    held: Tensor | None,
    start: Tensor,
    *,
    depth: float,
    tol: float,
    max_iter: int,
    bar: "tqdm[None]",
) -> Descent:
    """Descend on the rows and columns that have an entry to fit; the others are 0.

    Args:
        values: (m, n).
        fitted: (m, n), true where W is to fit; not empty.
        held: (m, n), true where W is to be judged, in those rows and columns; or None.
        start: W(0), (m, n).
        depth: N > 1.
        tol: as for :func:`descend`.
        max_iter: as for :func:`descend`.
        bar: told of each evaluation.

    Returns:
        As :func:`descend`; ``weight`` is (m, n).
    """
    # A row without an entry has no gradient of its own, yet grows with its columns' singular
    # vectors: random numbers of no meaning. Infinite depth needs its square.
    rows, columns = fitted.any(1), fitted.any(0)
    if math.isinf(depth):
        rows, columns = torch.ones_like(rows), torch.ones_like(columns)
    block = torch.meshgrid(rows.nonzero()[:, 0], columns.nonzero()[:, 0], indexing="ij")
    found = descend(
        values[block],
        fitted[block],
        None if held is None else held[block],
        start[block],
        depth=depth,
        tol=tol,
        max_iter=max_iter,
        bar=bar,
    )
    weight = torch.zeros_like(start)
    weight[block] = found.weight
    weight[~fitted.any(1)] = 0
    weight[:, ~fitted.any(0)] = 0
    found.weight = weight
    return found
