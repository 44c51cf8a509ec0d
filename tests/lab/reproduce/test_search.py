"""The search for the best learning rate, on losses whose lowest place is known."""

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from virtualdepth_lab.reproduce.search import (
    at_edge,
    best_of,
    decades,
    first_to_reach,
    quarter_decade,
    search,
)


def valley(
    loss: Callable[[int], float], first: range, **options: object
) -> tuple[dict[int, float], list[int]]:
    """Search one method; return the losses by rate, and the rates in the order of training."""
    trained: list[int] = []

    def train(grids: Mapping[str, Sequence[int]]) -> dict[str, list[float]]:
        trained.extend(grids["a"])
        return {"a": [loss(rate) for rate in grids["a"]]}

    return search(train, {"a": first}, [float], **options)["a"], trained


@pytest.mark.parametrize("first", [1, 2, 3, 8])
@pytest.mark.parametrize("lowest", range(10))
def test_a_bounded_grid_is_followed_downhill(first: int, lowest: int) -> None:
    losses, trained = valley(
        lambda rate: abs(rate - lowest),
        range(first - 1, first + 2),
        by=1,
        most=10,
        within=range(10),
    )
    assert best_of(losses, float) == lowest
    assert set(trained) <= set(range(10))
    assert len(trained) == len(set(trained))
    # both neighbours of the lowest were trained, and nothing beyond them
    assert {rate for rate in (lowest - 1, lowest + 1) if 0 <= rate < 10} <= set(trained)
    assert len(trained) <= max(3, abs(lowest - first) + 3)
    assert list(losses) == sorted(trained)


def test_divergence_is_kept_away_from() -> None:
    losses, _ = valley(
        lambda rate: math.inf if rate > 2 else -rate, range(3, 6), by=1, most=9, within=range(10)
    )
    assert best_of(losses, float) == 2


@pytest.mark.parametrize("lowest", [-40, -3, 1, 40])
def test_an_open_grid_grows_at_most_so_often(lowest: int) -> None:
    losses, trained = valley(lambda rate: abs(rate - lowest), range(3), by=4, most=2)
    inside = lowest in (-3, 1)
    assert at_edge(losses, [float]) != inside
    assert len(trained) == {-40: 3 + 8, -3: 3 + 4, 1: 3, 40: 3 + 8}[lowest]


def test_every_loss_has_its_best_rate_inside() -> None:
    def train(grids: Mapping[str, Sequence[int]]) -> dict[str, list[tuple[int, int]]]:
        return {name: [(abs(k + 4), abs(k - 4)) for k in rates] for name, rates in grids.items()}

    first, second = (lambda run: run[0]), (lambda run: run[1])
    runs = search(train, {"a": range(-1, 2)}, [first, second], by=2, most=9)["a"]
    assert (best_of(runs, first), best_of(runs, second)) == (-4, 4)
    assert (min(runs), max(runs)) == (-5, 5)


def test_only_grids_with_their_best_rate_at_an_edge_grow() -> None:
    calls: list[dict[str, list[int]]] = []

    def train(grids: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        calls.append({name: list(rates) for name, rates in grids.items()})
        lowest = {"inside": 1, "above": 3}
        return {name: [abs(k - lowest[name]) for k in rates] for name, rates in grids.items()}

    search(train, {"inside": range(3), "above": range(3)}, [float], by=2, most=9)
    assert calls == [{"inside": [0, 1, 2], "above": [0, 1, 2]}, {"above": [3, 4]}]


def test_of_equal_losses_the_smallest_rate_is_best() -> None:
    assert best_of({3: 1.0, 1: 1.0, 2: 2.0}, float) == 1


def test_grids_of_rates() -> None:
    assert decades(range(-2, 0), (1, 5)) == (0.01, 0.05, 0.1, 0.5)
    assert [quarter_decade(k) for k in (-8, 0, 2)] == [0.01, 1.0, 10**0.5]


def test_first_to_reach() -> None:
    nan, inf = math.nan, math.inf
    steps = [
        [[9.0, 9.0, 9.0], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0]],
        [[9.0, 1.0, 1.0], [2.0, nan, inf], [9.0, 9.0, 9.0]],
        [[0.0, 9.0, 0.0], [1.0, nan, inf], [9.0, 9.0, 9.0]],
    ]
    found = first_to_reach(map(torch.tensor, steps), 1.0, (0.1, 0.2, 0.3))
    assert found == [(1, 0.2), (2, 0.1), None]
