"""Two samples, one for each weight: where depth provably accelerates, and where it does not.

Source: arXiv 1802.06509, section 5 (the l_4 illustration); the slides of 2019, page 21.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.methods import RuleRuns
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.search import decades, first_to_reach

START, LOSS, MOST = 1e-2, 1e-6, 40_000
DEPTHS = (1, 2, 3)
CASES = ((2, 3.0, 0.5), (4, 3.0, 0.5), (4, 10.0, 0.5))  # p, y_1, y_2
RATES = decades(range(-5, 1), (1, 2, 3, 5, 7))


def two_samples(power: int, first: float, second: float) -> LpRegression:
    r"""Build samples ([1, 0], first) and ([0, 1], second).

    The loss of the source is the sum :math:`\frac1p \sum_i (w_i - y_i)^p`, twice the mean that
    :class:`LpRegression` takes. So its learning rates have to be doubled.
    """
    targets = torch.tensor([first, second], dtype=torch.float64)
    return LpRegression(inputs=torch.eye(2, dtype=torch.float64), targets=targets, power=power)


def starts(seeds: Sequence[int]) -> Tensor:
    """Return starts, (1 + seeds, 1, 2): equal entries first, then Gaussian ones of that scale."""
    drawn = [
        START * torch.randn(1, 2, generator=generator, dtype=torch.float64)
        for generator in (torch.Generator().manual_seed(seed) for seed in seeds)
    ]
    return torch.stack([torch.full((1, 2), START, dtype=torch.float64), *drawn])


def steps_to_converge(
    problem: LpRegression, depth: float, begin: Tensor
) -> list[tuple[int, float] | None]:
    """Return steps to a sum of losses of 1e-6 and the best rate, for each w in (starts, 1, 2)."""
    return first_to_reach(_losses(problem, depth, begin), LOSS, RATES)


def _losses(problem: LpRegression, depth: float, begin: Tensor) -> Iterator[Tensor]:
    """Yield the sums of losses at every step, (starts, rates)."""
    rates = 2 * torch.tensor(RATES, dtype=torch.float64)
    runs = RuleRuns(
        begin.repeat_interleave(len(rates), dim=0), rates.repeat(len(begin)).view(-1, 1, 1), depth
    )
    for _ in range(MOST + 1):
        grads, losses = problem.objective(runs.weights)
        yield 2 * losses.view(len(begin), -1)
        runs.step(grads)


def toy_rows(seeds: Sequence[int]) -> Iterator[Record]:
    """Yield a row for each case and depth; the seeds draw the starts of the range of steps."""
    for power, first, second in CASES:
        problem = two_samples(power, first, second)
        for depth in DEPTHS:
            found = steps_to_converge(problem, depth, starts(seeds))
            counts = [end[0] for end in found if end is not None]
            yield {
                "part": "two samples",
                "targets": f"({first:g}, {second:g})",
                "power": power,
                "depth": depth,
                "rate": found[0][1] if found[0] else None,
                "inside": all(end and RATES[0] < end[1] < RATES[-1] for end in found),
                "steps": found[0][0] if found[0] else None,
                "from": min(counts, default=None),
                "to": max(counts, default=None),
            }
