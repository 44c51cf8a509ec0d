"""The search for the best learning rate: on a grid that grows until the best rate lies inside it.

A grid is a range of whole numbers; what a number stands for, such as 10^(k/4), is up to the caller.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

Run = TypeVar("Run")
Rate = TypeVar("Rate", int, float)

PER_DECADE = 4


def quarter_decade(exponent: int) -> float:
    """Return the learning rate 10^(exponent / 4).

    >>> quarter_decade(-4)
    0.1
    """
    return float(10 ** (exponent / PER_DECADE))


def decades(powers: Iterable[int], digits: Sequence[int]) -> tuple[float, ...]:
    """Return the learning rates digit * 10^power, rising.

    >>> decades(range(-1, 1), (1, 5))
    (0.1, 0.5, 1.0, 5.0)
    """
    return tuple(digit * 10.0**power for power in powers for digit in digits)


def best_of(tried: Mapping[Rate, Run], loss: Callable[[Run], float]) -> Rate:
    """Return the rate whose run has the smallest loss; of equal ones the smallest rate."""
    return min(sorted(tried), key=lambda rate: loss(tried[rate]))


def at_edge(tried: Mapping[int, Run], losses: Sequence[Callable[[Run], float]]) -> bool:
    """Tell whether the grid begins or ends with the best rate, by any of the losses."""
    return not {min(tried), max(tried)}.isdisjoint(best_of(tried, loss) for loss in losses)


def search(
    train: Callable[[Mapping[str, Sequence[int]]], Mapping[str, Sequence[Run]]],
    grids: Mapping[str, Sequence[int]],
    losses: Sequence[Callable[[Run], float]],
    *,
    by: int,
    most: int,
    within: range | None = None,
) -> dict[str, dict[int, Run]]:
    """Train every method over its grid, and extend the grids whose best rate is at an edge.

    ``train`` takes the rates to try, by method, and returns one run for each. A grid grows by
    ``by`` rates at a time, at most ``most`` times, and not beyond ``within``. Returns the runs by
    method and rate; they may still have their best rate :func:`at_edge`.
    """
    tried: dict[str, dict[int, Run]] = {name: {} for name in grids}
    pending = dict(grids)
    for _ in range(most + 1):
        for name, runs in train(pending).items():
            tried[name] |= zip(pending[name], runs, strict=True)
        wider = {name: _beyond(runs, losses, by, within) for name, runs in tried.items()}
        pending = {name: rates for name, rates in wider.items() if rates}
        if not pending:
            break
    return {name: dict(sorted(runs.items())) for name, runs in tried.items()}


def _beyond(
    tried: Mapping[int, Run],
    losses: Sequence[Callable[[Run], float]],
    by: int,
    within: range | None,
) -> Sequence[int]:
    """Return the rates to try next; none if the best rate is inside."""
    best = {best_of(tried, loss) for loss in losses}
    first, last = min(tried), max(tried)
    for edge, wider in (
        (first, range(first - by, first)),
        (last, range(last + 1, last + 1 + by)),
    ):
        allowed = [rate for rate in wider if within is None or rate in within]
        if edge in best and allowed:
            return allowed
    return ()


def first_to_reach(
    losses: Iterable[Tensor], bound: float, rates: Sequence[float]
) -> list[tuple[int, float] | None]:
    """Find the learning rate that brings the loss to ``bound`` first, for each of several starts.

    ``losses`` yields the losses of all runs at each step, (starts, rates). Returns step and rate
    for each start; of equal ones the smallest rate, None if no run gets there.
    """
    found: list[tuple[int, float] | None] = []
    for step, now in enumerate(losses):
        found = found or [None] * len(now)
        reached = now <= bound
        for start in reached.any(1).nonzero().flatten().tolist():
            if found[start] is None:
                found[start] = step, rates[int(reached[start].nonzero()[0])]
        if None not in found:
            break
    return found
