"""One matrix, trained on observed entries by EndToEndSGD without a learning rate."""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from virtualdepth.optim import EndToEndSGD

# The held-out error need not fall at once: singular values grow one after the other, and between
# two of them both errors stand still. What shows that the best is past is a training error that
# has gone on falling, by this factor, since.
OVERFIT = 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where to stop.

    Attributes:
        tol: the training loss asked for.
        max_iter: the largest number of steps.
    """

    tol: float
    max_iter: int


@dataclass(kw_only=True)
class Descent:
    """What a descent found.

    Attributes:
        weight: W at the end; where entries were held out, W where their loss was smallest.
        loss: the training loss of ``weight``.
        held_loss: the mean squared error of the entries held out; infinite if there are none.
        losses: training losses, of the start and after each step.
        held_losses: those of the entries held out, if any.
        finished: whether a loss decided that it ended, and not ``max_iter``.
    """

    weight: Tensor
    loss: float = math.inf
    held_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)
    finished: bool = False

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.losses) - 1


@torch.no_grad()
def descend(
    values: Tensor,
    fitted: Tensor,
    held: Tensor | None,
    start: Tensor,
    depth: float,
    limits: Limits,
    bar: "tqdm[None]",
) -> Descent:
    """Minimise the mean squared error of the fitted entries from a small start.

    Args:
        values: (m, n).
        fitted: (m, n), true where W is to fit; not empty.
        held: (m, n), true where W is to be judged, or None.
        start: W(0), (m, n).
        depth: N > 1.
        limits: where to stop; it also stops where the held-out error is past its best.
        bar: told of each step.

    Returns:
        The end, or the best on the held-out entries.
    """
    weight = torch.nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], depth=depth, step_scale="auto")
    count = int(fitted.sum())
    found = Descent(weight=start)
    while True:
        difference = weight - values
        residual = torch.where(fitted, difference, 0.0)
        loss = float(residual.square().sum()) / count
        found.losses.append(loss)
        if held is not None:
            found.held_losses.append(float(difference[held].square().mean()))
        if held is None or found.held_losses[-1] < found.held_loss:
            found.weight, found.loss = weight.detach().clone(), loss
            found.held_loss = found.held_losses[-1] if held is not None else math.inf
        found.finished = loss <= limits.tol or loss < OVERFIT * found.loss
        if found.finished or found.steps >= limits.max_iter:
            return found
        weight.grad = residual * (2 / count)
        optimizer.step(partial(float, loss))
        bar.update()
        bar.set_postfix_str(f"loss {loss:.1e}", refresh=False)


def fit_observed(
    values: Tensor,
    fitted: Tensor,
    held: Tensor | None,
    start: Tensor,
    depth: float,
    limits: Limits,
    bar: "tqdm[None]",
) -> Descent:
    """Descend on the rows and columns that have an entry to fit; the others are 0.

    Args:
        values: (m, n).
        fitted: (m, n), true where W is to fit; not empty.
        held: (m, n), true where W is to be judged, or None.
        start: W(0), (m, n).
        depth: N > 1.
        limits: where to stop.
        bar: told of each step.

    Returns:
        As :func:`descend`.
    """
    # A row without an entry has no gradient of its own, yet grows with its columns' singular
    # vectors: random numbers of no meaning. Infinite depth needs its square.
    rows, columns = fitted.any(1), fitted.any(0)
    if math.isinf(depth):
        rows, columns = torch.ones_like(rows), torch.ones_like(columns)
    block = torch.meshgrid(rows.nonzero()[:, 0], columns.nonzero()[:, 0], indexing="ij")
    inner = None if held is None or not held[block].any() else held[block]
    found = descend(values[block], fitted[block], inner, start[block], depth, limits, bar)
    weight = torch.zeros_like(start)
    weight[block] = found.weight
    weight[~fitted.any(1)] = 0
    weight[:, ~fitted.any(0)] = 0
    found.weight = weight
    return found
