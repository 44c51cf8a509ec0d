"""The gap between the rule and gradient descent on the layers of every structure's network."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from virtualdepth.maths import balanced_factors
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.structures.descent import descend_by_rule
from virtualdepth_lab.reproduce.structures.problem import NETWORKS, Network, quadratic

RATES, TIME = (5e-3, 2.5e-3), 0.5
IMBALANCE, FROM_ZERO = 0.5, 0.4
START = 0.3  # deviation of an entry of W(0)
HYPENTROPY = 0.1  # u and v start at the root of it


def slope(rates: Sequence[float], gaps: Sequence[float]) -> float:
    """Fit the power of the rate that the gaps follow.

    >>> slope([1.0, 2.0], [3.0, 12.0])
    2.0
    """
    return float(np.polyfit(np.log(rates), np.log(gaps), 1)[0])


def slope_rows(
    seeds: Sequence[int], depths: Sequence[int], rates: Sequence[float] = RATES
) -> Iterator[Record]:
    """Yield a row for each network, seed, depth and imbalance, then those that start at 0."""
    for network in NETWORKS:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            start = START * torch.randn(network.shape, generator=generator, dtype=torch.float64)
            for depth in depths:
                for imbalance in (0.0, IMBALANCE):
                    yield _row(network, seed, start, depth, imbalance, rates)
                yield _row(network, seed, torch.zeros_like(start), depth, FROM_ZERO, rates)
    for seed in seeds:
        yield _difference_row(seed, rates)


def _row(
    network: Network,
    seed: int,
    start: Tensor,
    depth: int,
    imbalance: float,
    rates: Sequence[float],
) -> Record:
    gradient = quadratic(network.shape, seed + 1000)
    layers = balanced_factors(
        start, depth, structure=network.structure, imbalance=imbalance, form="polar"
    )

    def gap(rate: float, rule_depth: float, rule_imbalance: float) -> float:
        by_rule = descend_by_rule(
            start,
            gradient,
            lr=rate,
            depth=rule_depth,
            structure=network.structure,
            imbalance=rule_imbalance,
        )
        return _largest_gap(by_rule, layers, network.product, gradient, rate, rate)

    gaps = [gap(rate, depth, imbalance) for rate in rates]
    wrong_imbalance = gap(rates[0], depth, 2 * imbalance) if imbalance else None
    return {
        "part": "slopes",
        "structure": network.name,
        "start": "random" if start.any() else "zero",
        "depth": depth,
        "imbalance": imbalance,
        "seed": seed,
        "gaps": gaps,
        "slope": slope(rates, gaps),
        "wrong_depth": gap(rates[0], depth + 1, imbalance),
        "wrong_imbalance": wrong_imbalance,
    }


def _difference_row(seed: int, rates: Sequence[float]) -> Record:
    """Follow w = u^2 - v^2, from u = v: two layers, imbalance 4 alpha (arXiv 2002.09277)."""
    gradient = quadratic((12,), seed + 1000)
    both = torch.full((2, 12), HYPENTROPY**0.5, dtype=torch.float64)
    start = torch.zeros(12, dtype=torch.float64)

    def product(layers: Sequence[Tensor]) -> Tensor:
        return layers[0][0] ** 2 - layers[0][1] ** 2

    def gap(rate: float, imbalance: float) -> float:
        by_rule = descend_by_rule(
            start, gradient, lr=rate, depth=2, structure="diagonal", imbalance=imbalance
        )
        # u and v share the step of one number
        return _largest_gap(by_rule, [both], product, gradient, rate, rate / 2)

    gaps = [gap(rate, 4 * HYPENTROPY) for rate in rates]
    return {
        "part": "slopes",
        "structure": "u^2 - v^2",
        "start": "zero",
        "depth": 2,
        "imbalance": 4 * HYPENTROPY,
        "seed": seed,
        "gaps": gaps,
        "slope": slope(rates, gaps),
        "wrong_depth": None,
        "wrong_imbalance": gap(rates[0], 8 * HYPENTROPY),
    }


def _largest_gap(
    by_rule: Iterator[Tensor],
    layers: Sequence[Tensor],
    product: Callable[[Sequence[Tensor]], Tensor],
    gradient: Callable[[Tensor], Tensor],
    rate: float,
    layer_rate: float,
) -> float:
    """Run both for the same time; return the largest ||W - W_deep|| / ||W_deep||."""
    largest = 0.0
    layers = [layer.clone().requires_grad_() for layer in layers]
    optimizer = torch.optim.SGD(layers, lr=layer_rate)
    for weight in islice(by_rule, round(TIME / rate) + 1):
        deep = product(layers)
        size = float(deep.detach().norm())
        if size:  # both may start at zero
            largest = max(largest, float((weight - deep.detach()).norm()) / size)
        optimizer.zero_grad()
        deep.backward(gradient(deep.detach()))  # type: ignore[no-untyped-call]
        optimizer.step()
    return largest
