"""Descend the logarithm of the logistic loss: the step size grows as the loss falls.

Source: arXiv 1803.01905 (one layer). Plain steps reach the limit direction like 1 / log(steps).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from virtualdepth.networks import DeepLinear
from virtualdepth.optim import EndToEndSGD
from virtualdepth_lab.reproduce.margin.problem import Separable

STEP, RELATIVE_STEP = 1.0, 0.05  # the smaller one counts: of w, and relative to the length of w
PER_DECADE = 10


def recorded(steps: int) -> list[int]:
    """List the steps after which the weights are kept: about ten a decade, from 1 to ``steps``.

    A tenth of ``steps`` stands ten places before the last.

    >>> recorded(4)
    [1, 2, 3, 4]
    """
    places = range(int(PER_DECADE * math.log10(steps)) + 1)
    return sorted({1, *(round(steps * 10 ** (-place / PER_DECADE)) for place in places)})


def follow_vector(problem: Separable, start: Tensor, depth: int, steps: int) -> Tensor:
    """Train one vector, (1, n), by the end-to-end rule; return it after the recorded steps."""
    weight = nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], depth=depth)
    return _follow(problem, optimizer, lambda: weight, depth, steps)


def follow_network(problem: Separable, start: Tensor, depth: int, steps: int) -> Tensor:
    """Train the explicit network from balanced factors of the start, (1, n); return its products.

    They are the rows, one for each of the recorded steps.
    """
    network = DeepLinear.from_weight(start, depth)
    optimizer = torch.optim.SGD(network.parameters())
    return _follow(problem, optimizer, network.end_to_end, depth, steps)


def _follow(
    problem: Separable,
    optimizer: torch.optim.Optimizer,
    end_to_end: Callable[[], Tensor],
    depth: int,
    steps: int,
) -> Tensor:
    """Train, and return the end-to-end vectors after the recorded steps as rows."""
    kept, wanted = [], set(recorded(steps))
    for step in range(1, steps + 1):
        weight = end_to_end()
        optimizer.zero_grad()
        problem.log_loss(weight).backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = _learning_rate(weight.detach(), depth)
        optimizer.step()
        if step in wanted:
            kept.append(end_to_end().detach().clone())
    return torch.cat(kept)


def _learning_rate(weight: Tensor, depth: int) -> float:
    """Return the step, one scalar for all layers, over the largest gain at w."""
    norm = float(weight.norm())
    gain = depth * float(norm ** (2 - 2 / depth))
    return min(STEP, RELATIVE_STEP * norm) / gain
