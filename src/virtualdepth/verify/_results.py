"""What a run of the check found, and what follows from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import linear_regression
from typing import Any

from virtualdepth.verify._config import exact

ORDER_RANGE = (0.9, 1.15)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One learning rate.

    Attributes:
        lr: the learning rate.
        steps: how many it had to take.
        gap: the largest ||W - W_deep||_F / ||W_deep||_F along the way; None if it diverged.
        loss_single: of the single layer after the last step; None if it diverged.
        loss_deep: of the explicit network after the last step; None if it diverged.
        seconds: wall time.
    """

    lr: float
    steps: int
    gap: float | None
    loss_single: float | None
    loss_deep: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One learning rate, step by step: entry k is the state after k steps, all of them finite.

    Attributes:
        lr: the learning rate.
        loss_single: of the single layer.
        loss_deep: of the explicit network.
        gap: ||W - W_deep||_F / ||W_deep||_F.
        balancedness: the largest ||W_{j+1}^T W_{j+1} - W_j W_j^T||_F over j.
    """

    lr: float
    loss_single: list[float] = field(default_factory=list)
    loss_deep: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    balancedness: list[float] = field(default_factory=list)

    @property
    def time(self) -> list[float]:
        """Learning rate times step, for each entry."""
        return [self.lr * step for step in range(len(self.gap))]


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What the check found, in the terms of result.json.

    Attributes:
        config: the arguments.
        versions: of Python and the packages.
        rows: of the learning rates that were finished, the largest first.
        curves: of the same.
        parameters: how many the "single" layer and the "deep" network have.
        notes: sentences on the data, such as columns that are left out.
    """

    config: dict[str, Any]
    versions: dict[str, str]
    rows: list[Row]
    curves: list[Curve]
    parameters: dict[str, int]
    notes: list[str] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        """Whether learning rates are missing."""
        return len(self.rows) < len(self.config["lrs"])

    @property
    def order(self) -> float | None:
        """:func:`order_of_gap` of the rows."""
        return order_of_gap([row.lr for row in self.rows], [row.gap for row in self.rows])

    @property
    def failures(self) -> list[str]:
        """What speaks against the equivalence, in words; empty if nothing does."""
        low, high = ORDER_RANGE
        found = [
            _divergence(row, len(curve.gap))
            for row, curve in zip(self.rows, self.curves, strict=True)
            if row.gap is None
        ]
        if self.order is not None and not low <= self.order <= high:
            found.append(
                f"the order {outside(self.order, low, high)} is not between {low} and {high}"
            )
        gaps = [row.gap for row in self.rows if row.gap is not None]
        if any(after >= before for before, after in pairwise(gaps)):
            found.append("the gap does not fall with the learning rate")
        return found

    @property
    def passed(self) -> bool | None:
        """Whether the single layer follows the deep network; None if interrupted."""
        return None if self.interrupted else self.order is not None and not self.failures


def _divergence(row: Row, finished: int) -> str:
    """Say where a learning rate diverged, given how many states of it are finite."""
    if finished == 0:
        return (
            f"at learning rate {exact(row.lr)} the start is not finite: the layers multiply to "
            "more than the dtype holds; choose a smaller imbalance, init_scale or depth"
        )
    return (
        f"at learning rate {exact(row.lr)} training diverged: in step {finished} of {row.steps} a "
        "loss or a weight stopped being finite; choose smaller learning rates"
    )


def outside(value: float, low: float, high: float) -> str:
    """Write a number that is not in [low, high] with so many digits that one sees it.

    >>> outside(1.15004, 0.9, 1.15), outside(2.0, 0.9, 1.15)
    ('1.15004', '2')
    """
    texts = (f"{value:.{digits}g}" for digits in range(3, 18))
    return next((text for text in texts if not low <= float(text) <= high), repr(value))


def order_of_gap(lrs: Sequence[float], gaps: Sequence[float | None]) -> float | None:
    """Fit log gap = order * log lr + constant by least squares.

    The order is None if a gap is undefined or 0, or if there are fewer than two.

    >>> order_of_gap([0.1, 0.05, 0.025], [0.008, 0.004, 0.002])
    1.0
    """
    positive = [gap for gap in gaps if gap]
    if len(positive) < max(len(gaps), 2):
        return None
    slope: float = linear_regression(
        [math.log(lr) for lr in lrs], [math.log(gap) for gap in positive]
    ).slope
    return slope
